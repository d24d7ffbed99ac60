"""Text as users have it: files of many formats read as a stream of documents. [text]"""
