/* The element-wise parts of training a Transformer on a CPU, each in one pass over its data.

   Eager PyTorch runs a normalisation, a rotation or a gate as a dozen operations that each read and
   write everything; here each is one. All arrays are contiguous float32, a row is one token (or one
   head of one token), and `scratch` holds one zeroed row a thread for the gradient of a weight.
   fused/library.py compiles this with OpenMP, so that PyTorch's own threads do the work. */

#include <math.h>
#include <omp.h>
#include <stdint.h>

#define PARALLEL _Pragma("omp parallel for schedule(static) if (work > 32768)")

/* A normalised row; one piece of code, so that what is computed again is the same to the bit. */
static void norm_row(const float *restrict s, float m, float r, const float *restrict weight, const float *restrict bias,
                     float *restrict out, int64_t width) {
    for (int64_t j = 0; j < width; j++) out[j] = (s[j] - m) * r * weight[j];
    if (bias)
        for (int64_t j = 0; j < width; j++) out[j] += bias[j];
}

/* sum = x + y (y may be null: sum is then not written), out = (sum - mean) * inverse * weight + bias.
   A layer norm takes the mean away and divides by the standard deviation; where `mean` is null, so is
   `bias`, and the norm is an RMS norm: nothing is taken away. */
void norm_forward(const float *restrict x, const float *restrict y, const float *restrict weight, const float *restrict bias,
                  float *restrict sum, float *restrict out, float *restrict mean, float *restrict inverse, int64_t rows,
                  int64_t width, float eps) {
    int64_t work = rows * width;
    PARALLEL
    for (int64_t i = 0; i < rows; i++) {
        const float *s = x + i * width;
        if (y) {
            const float *a = x + i * width, *b = y + i * width;
            float *t = sum + i * width;
            for (int64_t j = 0; j < width; j++) t[j] = a[j] + b[j];
            s = t;
        }
        float m = 0, square = 0;
        if (mean) {
            for (int64_t j = 0; j < width; j++) m += s[j];
            mean[i] = m /= width;
        }
        for (int64_t j = 0; j < width; j++) square += (s[j] - m) * (s[j] - m);
        float r = 1.0f / sqrtf(square / width + eps);
        inverse[i] = r;
        norm_row(s, m, r, weight, bias, out + i * width, width);
    }
}

/* out as norm_forward wrote it, from what it kept. */
void norm_again(const float *restrict sum, const float *restrict weight, const float *restrict bias,
                const float *restrict mean, const float *restrict inverse, float *restrict out, int64_t rows, int64_t width) {
    int64_t work = rows * width;
    PARALLEL
    for (int64_t i = 0; i < rows; i++)
        norm_row(sum + i * width, mean ? mean[i] : 0, inverse[i], weight, bias, out + i * width, width);
}

/* With g = slope * weight and h = (sum - mean) * inverse: the gradient of sum is
   inverse * (g - h * mean(g * h)), less inverse * mean(g) in a layer norm; to it `through` (may be null)
   is added. A thread's scratch holds the gradients of weight and bias, one after the other. */
void norm_backward(const float *restrict slope, const float *restrict through, const float *restrict sum,
                   const float *restrict weight, const float *restrict mean, const float *restrict inverse, float *restrict out,
                   float *restrict scratch, int64_t rows, int64_t width) {
    int64_t work = rows * width;
    PARALLEL
    for (int64_t i = 0; i < rows; i++) {
        const float *d = slope + i * width, *s = sum + i * width;
        float *o = out + i * width, *w = scratch + omp_get_thread_num() * 2 * width, *z = w + width;
        float r = inverse[i], m = mean ? mean[i] : 0, dot = 0, total = 0;
        for (int64_t j = 0; j < width; j++) dot += d[j] * weight[j] * (s[j] - m);
        for (int64_t j = 0; j < width; j++) w[j] += d[j] * (s[j] - m) * r;
        if (mean)
            for (int64_t j = 0; j < width; j++) {
                total += d[j] * weight[j];
                z[j] += d[j];
            }
        float pull = dot * r * r * r / width, shift = total * r / width;
        for (int64_t j = 0; j < width; j++) o[j] = d[j] * weight[j] * r - (s[j] - m) * pull - shift;
        if (through) {
            const float *t = through + i * width;
            for (int64_t j = 0; j < width; j++) o[j] += t[j];
        }
    }
}

/* Normalise each head's channels (weight may be null: not), then rotate channel c with c + half.
   x, out: (rows, heads, width). cos, sin: (table rows, width), row i uses table row i % table_rows;
   sin is negated in its first half. */
void rotate_heads_forward(const float *restrict x, const float *restrict weight, const float *restrict cos, const float *restrict sin,
                          float *restrict out, float *restrict inverse, int64_t rows, int64_t heads, int64_t width,
                          int64_t table_rows, float eps) {
    int64_t work = rows * heads * width, half = width / 2;
    PARALLEL
    for (int64_t i = 0; i < rows; i++) {
        const float *c = cos + (i % table_rows) * width, *s = sin + (i % table_rows) * width;
        for (int64_t h = 0; h < heads; h++) {
            const float *a = x + (i * heads + h) * width;
            float *o = out + (i * heads + h) * width;
            if (weight) {
                float square = 0;
                for (int64_t j = 0; j < width; j++) square += a[j] * a[j];
                float r = 1.0f / sqrtf(square / width + eps);
                inverse[i * heads + h] = r;
                for (int64_t j = 0; j < half; j++) {
                    float first = a[j] * r * weight[j], second = a[j + half] * r * weight[j + half];
                    o[j] = first * c[j] + second * s[j];
                    o[j + half] = second * c[j + half] + first * s[j + half];
                }
            } else {
                for (int64_t j = 0; j < half; j++) {
                    float first = a[j], second = a[j + half];
                    o[j] = first * c[j] + second * s[j];
                    o[j + half] = second * c[j + half] + first * s[j + half];
                }
            }
        }
    }
}

/* The rotation backwards is the rotation by the negative angle; then as rms_norm_backward. */
void rotate_heads_backward(const float *restrict slope, const float *restrict x, const float *restrict weight, const float *restrict cos,
                           const float *restrict sin, const float *restrict inverse, float *restrict out, float *restrict scratch,
                           int64_t rows, int64_t heads, int64_t width, int64_t table_rows) {
    int64_t work = rows * heads * width, half = width / 2;
    PARALLEL
    for (int64_t i = 0; i < rows; i++) {
        const float *c = cos + (i % table_rows) * width, *s = sin + (i % table_rows) * width;
        float *w = scratch + omp_get_thread_num() * width;
        for (int64_t h = 0; h < heads; h++) {
            const float *d = slope + (i * heads + h) * width, *a = x + (i * heads + h) * width;
            float *o = out + (i * heads + h) * width;
            for (int64_t j = 0; j < half; j++) {
                float first = d[j], second = d[j + half];
                o[j] = first * c[j] + second * s[j + half];
                o[j + half] = second * c[j + half] + first * s[j];
            }
            if (!weight) continue;
            float r = inverse[i * heads + h], dot = 0;
            for (int64_t j = 0; j < width; j++) dot += o[j] * weight[j] * a[j];
            float pull = dot * r * r * r / width;
            for (int64_t j = 0; j < width; j++) {
                w[j] += o[j] * a[j] * r;
                o[j] = o[j] * weight[j] * r - a[j] * pull;
            }
        }
    }
}

/* Far below zero the exponential would overflow, which fast math turns into not-a-number. */
static inline float sigmoid(float x) { return 1.0f / (1.0f + expf(x > -80.0f ? -x : 80.0f)); }

/* 1 - sigmoid(x). The subtraction would leave the rounding of a sigmoid near 1, which some processors'
   approximate division makes of either sign, and slopes multiply it by large x. */
static inline float rest_of_sigmoid(float x) { return sigmoid(-x); }

/* out = silu(gate) * up. The loops stand in functions of their own, because the compiler forgets inside
   a parallel region that arrays do not overlap, and then does not vectorise. */
static void gate_piece(const float *restrict gate, const float *restrict up, float *restrict out,
                       int64_t count) {
    for (int64_t j = 0; j < count; j++) out[j] = gate[j] * sigmoid(gate[j]) * up[j];
}

static void gate_slope_piece(const float *restrict slope, const float *restrict gate,
                             const float *restrict up, float *restrict gate_slope,
                             float *restrict up_slope, int64_t count) {
    for (int64_t j = 0; j < count; j++) {
        float s = sigmoid(gate[j]), d = slope[j];
        up_slope[j] = d * gate[j] * s;
        gate_slope[j] = d * up[j] * s * (1.0f + gate[j] * rest_of_sigmoid(gate[j]));
    }
}

void gate_forward(const float *gate, const float *up, float *out, int64_t count) {
    int64_t work = count, block = 4096;
    PARALLEL
    for (int64_t i = 0; i < count; i += block)
        gate_piece(gate + i, up + i, out + i, i + block < count ? block : count - i);
}

void gate_backward(const float *slope, const float *gate, const float *up, float *gate_slope,
                   float *up_slope, int64_t count) {
    int64_t work = count, block = 4096;
    PARALLEL
    for (int64_t i = 0; i < count; i += block)
        gate_slope_piece(slope + i, gate + i, up + i, gate_slope + i, up_slope + i,
                         i + block < count ? block : count - i);
}

/* GELU by a hyperbolic tangent (Hendrycks and Gimpel 2016), written with (1 + tanh u) / 2 = sigmoid(2u). */
static void gelu_piece(const float *restrict x, float *restrict out, int64_t count) {
    for (int64_t j = 0; j < count; j++) {
        float t = x[j];
        out[j] = t * sigmoid(1.5957691216f * (t + 0.044715f * t * t * t));
    }
}

static void gelu_slope_piece(const float *restrict slope, const float *restrict x, float *restrict out, int64_t count) {
    for (int64_t j = 0; j < count; j++) {
        float t = x[j], u = 1.5957691216f * (t + 0.044715f * t * t * t), s = sigmoid(u);
        out[j] = slope[j] * (s + t * s * rest_of_sigmoid(u) * 1.5957691216f * (1.0f + 0.134145f * t * t));
    }
}

void gelu_forward(const float *x, float *out, int64_t count) {
    int64_t work = count, block = 4096;
    PARALLEL
    for (int64_t i = 0; i < count; i += block) gelu_piece(x + i, out + i, i + block < count ? block : count - i);
}

void gelu_backward(const float *slope, const float *x, float *out, int64_t count) {
    int64_t work = count, block = 4096;
    PARALLEL
    for (int64_t i = 0; i < count; i += block)
        gelu_slope_piece(slope + i, x + i, out + i, i + block < count ? block : count - i);
}

/* Replace scores (rows, vocabulary) by the gradient of their cross-entropy, softmax minus one-hot, and
   write each row's loss; a row whose target is negative counts nothing. */
void cross_entropy(float *restrict scores, const int64_t *restrict targets, float *restrict losses, int64_t rows,
                   int64_t vocabulary) {
    int64_t work = rows * vocabulary;
    PARALLEL
    for (int64_t i = 0; i < rows; i++) {
        float *x = scores + i * vocabulary;
        int64_t target = targets[i];
        if (target < 0) {
            for (int64_t j = 0; j < vocabulary; j++) x[j] = 0;
            losses[i] = 0;
            continue;
        }
        float top = x[0], wanted = x[target], total = 0;
        for (int64_t j = 0; j < vocabulary; j++) top = x[j] > top ? x[j] : top;
        for (int64_t j = 0; j < vocabulary; j++) {
            x[j] = expf(x[j] - top);
            total += x[j];
        }
        float share = 1.0f / total;
        for (int64_t j = 0; j < vocabulary; j++) x[j] *= share;
        x[target] -= 1.0f;
        losses[i] = logf(total) + top - wanted;
    }
}
