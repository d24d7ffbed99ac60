"""What everything else stands on: errors, settings, files, logging, devices, processes. [core]"""
