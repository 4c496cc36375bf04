package profiles_test

import (
	"fmt"
	"log"
	"testing/fstest"

	"github.com/sand-boxer/sandboxer/profiles"
)

// A program's own profiles stand beside the reference profiles, and one of the
// same id in its place.
func ExampleLoad() {
	own := fstest.MapFS{"shop.yaml": {Data: []byte("id: profile.shop\nisolation: container\nttl: 1h\nmax_ttl: 4h\ninputs: {repo: {required: true}}\n")}}
	all, err := profiles.Load(own) // or os.DirFS("/etc/sandboxer/profiles")
	if err != nil {
		log.Fatal(err)
	}
	for _, p := range all {
		fmt.Println(p.ID, p.MaxTTL)
	}
	// Output:
	// profile.compose-e2e 8h
	// profile.shop 4h
}
