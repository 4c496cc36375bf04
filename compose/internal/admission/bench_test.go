package admission_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer/compose/internal/admission"
)

// hundred is a repository of a hundred services with the attributes that most
// files have.
func hundred() memoryTree {
	var services, volumes strings.Builder
	for i := range 100 {
		fmt.Fprintf(&services, `  s%d:
    image: "alpine:${TAG:-3.20}"
    ports: ["%d:80"]
    environment: {A: b, C: "${X:-y}"}
    volumes: ["./d%d:/d", "v%d:/v"]
    restart: always
    healthcheck: {test: [CMD, "true"], interval: 5s}
    depends_on: [s%d]
`, i, 8000+i, i, i/2*2, (i+99)%100)
		if i == 0 {
			s := services.String()
			services.Reset()
			services.WriteString(strings.Replace(s, "    depends_on: [s99]\n", "", 1))
		}
		if i%2 == 0 {
			fmt.Fprintf(&volumes, "  v%d: {}\n", i)
		}
	}
	return memoryTree{"compose.yaml": "services:\n" + services.String() + "volumes:\n" + volumes.String()}
}

// BenchmarkHundredServices is what a plan costs of a file of a hundred services,
// and what its canonical file costs a create.
func BenchmarkHundredServices(b *testing.B) {
	req := request(hundred())
	req.Policy.MaxContainers = 100
	check := func(b *testing.B) *admission.Plan {
		plan, a, err := admission.Check(b.Context(), req)
		if err != nil || plan == nil {
			b.Fatal(a.Violations, err)
		}
		return plan
	}
	b.Run("Check", func(b *testing.B) {
		for b.Loop() {
			check(b)
		}
	})
	b.Run("Render", func(b *testing.B) {
		plan := check(b)
		for b.Loop() {
			if _, err := plan.Render(placement(plan)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
