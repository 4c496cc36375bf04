package api

import _ "embed"

//go:generate go run ../../../internal/schemagen -openapi openapi.json -source ../../..

//go:embed openapi.json
var openAPI []byte

// OpenAPI is the OpenAPI 3.1 document of [Operations], as JSON text.
func OpenAPI() []byte { return append([]byte(nil), openAPI...) }
