package schemas_test

import (
	"encoding/json"
	"fmt"
	"log"

	"github.com/sand-boxer/sandboxer/schemas"
)

// A schema is JSON, for editors and for validators of any kind.
func ExampleGet() {
	text, err := schemas.Get("profile")
	if err != nil {
		log.Fatal(err)
	}
	var schema struct {
		ID       string   `json:"$id"`
		Required []string `json:"required"`
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		log.Fatal(err)
	}
	fmt.Println(schema.ID)
	fmt.Println(schema.Required)
	// Output:
	// https://github.com/sand-boxer/sandboxer/schemas/profile.schema.json
	// [id isolation ttl max_ttl inputs]
}
