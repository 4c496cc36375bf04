package sandboxer

import (
	"fmt"
	"slices"
	"strings"
)

// requirements finds the controls that must be enforced and are not.
func requirements(required []string, controls []Control) error {
	var missing []Control
	for _, name := range required {
		i := slices.IndexFunc(controls, func(c Control) bool { return c.Name == name })
		switch {
		case i < 0:
			missing = append(missing, Control{Name: name, Level: Unsupported, Detail: "the extension does not report it"})
		case controls[i].Level != Enforced:
			missing = append(missing, controls[i])
		}
	}
	if len(missing) > 0 {
		return &RequirementError{Missing: missing}
	}
	return nil
}

// A RequirementError lists the controls that the profile requires and the host
// does not enforce. It matches [ErrUnsupported], and [ErrUnavailable] because
// another host may.
type RequirementError struct {
	Missing []Control
}

func (e *RequirementError) Error() string {
	reasons := make([]string, 0, len(e.Missing))
	for _, c := range e.Missing {
		reasons = append(reasons, fmt.Sprintf("%s is %s (%s)", c.Name, c.Level, c.Detail))
	}
	return fmt.Sprintf("the profile requires what is not enforced: %s", strings.Join(reasons, "; "))
}

// Is reports whether target is one of the sentinels described at [RequirementError].
func (e *RequirementError) Is(target error) bool {
	return target == ErrUnsupported || target == ErrUnavailable
}
