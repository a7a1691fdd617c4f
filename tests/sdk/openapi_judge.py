"""Whether an OpenAPI description, read from standard input, is one: nothing is said if it is."""

import json
import sys

from openapi_spec_validator import OpenAPIV31SpecValidator

faults = [str(error.message) for error in OpenAPIV31SpecValidator(json.load(sys.stdin)).iter_errors()]
if faults:
    sys.exit("\n".join(faults))
