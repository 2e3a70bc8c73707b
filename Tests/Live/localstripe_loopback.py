"""Starts localstripe as it is, but on 127.0.0.1 only and with its state in a directory of its own.

Left alone, localstripe listens on every interface and keeps its state in one fixed file in /tmp, so that two of them
would overwrite each other. Nothing else is changed: routes, events, signatures and webhooks are localstripe's own.

    python localstripe_loopback.py --port 8420 --state DIRECTORY
"""

import argparse
import builtins
import logging
import os
import sys

from aiohttp import web
from localstripe import resources, server

STATE_FILE = "/tmp/localstripe.pickle"


def keep_state_in(directory):
    """Redirects the one path that localstripe.resources opens."""

    def open_here(path, *arguments, **options):
        if path == STATE_FILE:
            path = os.path.join(directory, "localstripe.pickle")
        return builtins.open(path, *arguments, **options)

    resources.open = open_here


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", required=True, help="an existing directory")
    parser.add_argument("--keep", action="store_true", help="go on from the state that an earlier run left there")
    arguments = parser.parse_args()
    keep_state_in(arguments.state)
    if arguments.keep:
        resources.store.try_load_from_disk()
    logger = logging.getLogger("aiohttp.access")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(logging.StreamHandler(sys.stderr))
    web.run_app(server.app, host="127.0.0.1", port=arguments.port, access_log=logger)


if __name__ == "__main__":
    main()
