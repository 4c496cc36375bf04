package sandboxer

import (
	"errors"
	"strings"
	"testing"
)

func TestRequirements(t *testing.T) {
	found := []Control{
		{Name: "network.egress", Level: Enforced},
		{Name: "network.host", Level: Unsupported, Detail: "the host answers"},
		{Name: "resources.disk", Level: Advisory, Detail: "nothing limits it"},
	}
	for _, tt := range []struct {
		name     string
		required []string
		says     []string // empty: all is enforced
	}{
		{"nothing is required", nil, nil},
		{"what is enforced", []string{"network.egress"}, nil},
		{"what is unsupported, and why", []string{"network.egress", "network.host"}, []string{"network.host is unsupported (the host answers)"}},
		{"what is only advisory", []string{"resources.disk"}, []string{"resources.disk is advisory"}},
		{"what nobody reports", []string{"network.moon"}, []string{"network.moon is unsupported", "does not report it"}},
		{"all at once", []string{"network.host", "network.moon"}, []string{"network.host", "network.moon"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := requirements(tt.required, found)
			if len(tt.says) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, ErrUnsupported) || !errors.Is(err, ErrUnavailable) || Retryable(err) {
				t.Errorf("%v: another host may do, the same will not", err)
			}
			for _, want := range tt.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}
