package host

import "context"

// SetCordoned closes the machine's root directory to new sandboxes, for every
// client, or opens it to them. When it returns, those that got in before are
// in what the machine lists.
func (m *Machine) SetCordoned(ctx context.Context, cordoned bool) error {
	want := "open"
	if cordoned {
		want = "cordoned"
	}
	_, err := m.run(ctx, step{names: []string{"cordon"}, vars: map[string]string{"want": want}})
	m.forget()
	return err
}
