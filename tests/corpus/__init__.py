"""Raw requests with the verdict that each deserves, and the section of the RFC that says so.

`legal.py` holds requests that must be served, odd ones chiefly, with the scope and the content that the application
is to see; `refused.py` holds those that could be read in two ways, or not at all, with the status of the refusal. The
tests that replay them do so whole, split at every byte, and with a second request behind.
"""
