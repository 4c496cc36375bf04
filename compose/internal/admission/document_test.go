package admission

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDocumentIsGenerated: docs/admission.md is what the rules say.
func TestDocumentIsGenerated(t *testing.T) {
	text, err := os.ReadFile("../../../docs/admission.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Document(), string(text)); diff != "" {
		t.Errorf("run make generate (-rules +docs/admission.md):\n%s", diff)
	}
}
