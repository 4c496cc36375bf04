package admission

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/schema"
	"github.com/compose-spec/compose-go/v2/tree"
)

// TestEveryAttributeIsClassified fails when the specification, by an upgrade
// of compose-go, gains an attribute that nobody has thought about.
func TestEveryAttributeIsClassified(t *testing.T) {
	for _, p := range schema.AttributePaths() {
		found := rulesFor(p.Parts())
		if len(found) == 0 {
			t.Errorf("%s is governed by no rule", p)
			continue
		}
		refused := slices.ContainsFunc(found, (*Rule).refusesPresence)
		if refused && len(found) > 1 {
			t.Errorf("%s is refused by its presence and governed by another rule", p)
		}
		if len(found) > 2 {
			t.Errorf("%s is governed by %d rules", p, len(found))
		}
	}
}

// TestEveryPatternIsAnAttribute finds misspelt and outlived patterns.
func TestEveryPatternIsAnAttribute(t *testing.T) {
	for _, r := range rules {
		for _, pattern := range r.patterns() {
			parts := strings.Split(pattern, ".")
			if !slices.ContainsFunc(schema.AttributePaths(), func(p tree.Path) bool { return governs(parts, p.Parts()) }) {
				t.Errorf("%s: no attribute matches %s", r.ID, pattern)
			}
		}
	}
}

func TestRulesAreExplained(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range rules {
		if seen[r.ID] {
			t.Errorf("%s is there twice", r.ID)
		}
		seen[r.ID] = true
		if r.Class != Allow && r.Reason == "" {
			t.Errorf("%s gives no reason", r.ID)
		}
		if r.Class >= Profile && r.Hint == "" {
			t.Errorf("%s gives no hint", r.ID)
		}
		if (r.Class == Profile) != (r.Grants != "") {
			t.Errorf("%s: what a profile grants is said by rules of class Profile, and by no others", r.ID)
		}
		if strings.HasSuffix(r.Reason+r.Hint, ".") {
			t.Errorf("%s ends in a full stop", r.ID)
		}
	}
}

// TestFindingsNameRules looks at the code: a finding under an unknown id would
// be a crash at the worst moment, and a rule that nothing reports is dead.
func TestFindingsNameRules(t *testing.T) {
	files, _ := filepath.Glob("*.go")
	used := map[string]bool{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") || name == "rules.go" {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`"([A-Z]+(?:-[A-Z]+)*)"`).FindAllStringSubmatch(string(text), -1) {
			used[m[1]] = true
		}
		for _, m := range regexp.MustCompile(`(?:deny|denyAt|refuse|rewrite|ruleByID)\("([^"]+)"`).FindAllStringSubmatch(string(text), -1) {
			if ruleByID(m[1]) == nil {
				t.Errorf("%s reports %s, which is no rule", name, m[1])
			}
		}
	}
	for _, id := range []string{"SECRET-FILE", "SECRET-SYMLINK", "SECRET-ENV", "CONFIG-FILE", "CONFIG-SYMLINK", "CONFIG-ENV", "CONFIG-CONTENT"} {
		used[id] = true // put together from the family's name
	}
	for _, r := range rules {
		if r.Class != Allow && !r.refusesPresence() && !used[r.ID] {
			t.Errorf("nothing reports %s", r.ID)
		}
	}
}

// TestUnknownAttributesAreRefused: an attribute that a later specification
// adds is reported by the loader, and no rule knows it.
func TestUnknownAttributesAreRefused(t *testing.T) {
	for _, at := range []attr{{"services", "a", "teleport"}, {"networks", "n", "teleport"}, {"portals"}, {"services", "a", "build", "teleport", "to"}} {
		r := &report{}
		l := &loading{report: r}
		l.refuse(at, "anywhere")
		if len(r.violations.noted) != 1 || r.violations.noted[0].rule.ID != "UNKNOWN" {
			t.Errorf("%s: %v", at, r.violations.noted)
		}
	}
}
