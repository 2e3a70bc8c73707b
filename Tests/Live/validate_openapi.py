"""Says whether a file is a valid OpenAPI 3.1 document, by the PyPI library openapi-spec-validator. Exits with 1 if it is not.

    python validate_openapi.py openapi.json
"""

import json
import sys

from openapi_spec_validator import OpenAPIV31SpecValidator

with open(sys.argv[1], encoding="utf-8") as file:
    document = json.load(file)
errors = list(OpenAPIV31SpecValidator(document).iter_errors())
for error in errors:
    print("/".join(str(part) for part in error.path), error.message, sep=": ")
print(f"{len(document['paths'])} paths, {len(errors)} errors")
sys.exit(1 if errors else 0)
