package workspace

import "path"

// Diff is what turns one tree into another: everything in Delete removed with all below it, then Send put in place.
type Diff struct {
	// Send holds the entries to put in place, sorted by path: what the base lacks or has otherwise, and the
	// directories above it.
	Send []Entry
	// Delete holds the paths to remove first, sorted by path: what the target lacks or has otherwise. Nothing below a
	// path that is listed is listed itself. Paths hold no control characters, so any of these can part them.
	Delete []string
}

// Bytes is the total size of the regular files to send.
func (d Diff) Bytes() int64 {
	var total int64
	for _, e := range d.Send {
		total += e.Size
	}
	return total
}

// Diff says how to turn base into m; the zero Manifest as base makes it all of m. Files that differ in any way are
// removed and sent anew, so that applying a Diff writes into no file of base.
func (m Manifest) Diff(base Manifest) Diff {
	return Diff{Send: m.toSend(base), Delete: m.toDelete(base)}
}

func (m Manifest) toSend(base Manifest) []Entry {
	wanted := make([]bool, len(m.entries))
	for i, e := range m.entries {
		if old, ok := base.Lookup(e.Path); ok && old == e {
			continue
		}
		wanted[i] = true
		for at := path.Dir(e.Path); at != "."; at = path.Dir(at) {
			j, _ := m.find(at)
			if wanted[j] {
				break
			}
			wanted[j] = true
		}
	}
	var send []Entry
	for i, e := range m.entries {
		if wanted[i] {
			send = append(send, e)
		}
	}
	return send
}

func (m Manifest) toDelete(base Manifest) []string {
	var gone []string
	deleted := map[string]bool{}
	for _, old := range base.entries {
		if e, ok := m.Lookup(old.Path); ok && e == old {
			continue
		}
		if !deleted[path.Dir(old.Path)] {
			gone = append(gone, old.Path)
		}
		deleted[old.Path] = true
	}
	return gone
}
