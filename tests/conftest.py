"""What all tests share."""

import signal

# A shell that starts the tests in the background has SIGINT ignored, and the
# processes that tests start and interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
