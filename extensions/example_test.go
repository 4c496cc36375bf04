package extensions_test

import (
	"fmt"
	"log"

	"github.com/sand-boxer/sandboxer/extensions"
)

// A manifest says what routing and operators may know without asking a host.
func ExampleManifest() {
	info, err := extensions.Manifest("ext.compose-ssh")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.ID, info.Pricing, info.Isolation)
	// Output:
	// ext.compose-ssh self-hosted [container gvisor]
}
