"""One bed and the tests that are run on it: `worker.py JOB`, where JOB is a file that `main.py` wrote. Results go to a file, a line each."""

import json
import os
import sys

import bed
import sandbox
import tester_app


def main():
    sandbox.end_with_parent()
    with open(sys.argv[1], encoding="utf-8") as file:
        job = json.load(file)
    place = bed.Bed(job["target"], job["version"], job["agent"], job["folder"], job["cache"])

    def ended(code):
        place.end()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    tester_app.run(dict(job, check=place.check, ended=ended))


if __name__ == "__main__":
    main()
