package workspace

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MarkerName is the last entry of a stream, holding the manifest. A tree may not have a file of this name at its root.
const MarkerName = ".sandboxer-manifest"

// Kind is what an entry is; its value is the letter that stands for it in an encoded manifest.
type Kind byte

const (
	Dir     Kind = 'd'
	File    Kind = 'f'
	Symlink Kind = 'l'
)

// Entry is one directory, regular file or symbolic link of a tree. Entries are comparable with ==.
type Entry struct {
	Path   string // relative to the tree, clean, slash separated
	Kind   Kind
	Mode   uint32 // 0755 or 0644; 0 for a symbolic link, which has none of its own
	Size   int64  // bytes of a regular file, else 0
	SHA256 string // of a regular file's content, 64 lower-case hexadecimal digits, else empty
	Link   string // target of a symbolic link, as it is written in the link, else empty
}

// Manifest lists the entries of a tree, the tree itself left out. The zero value is the empty tree.
// It is immutable and safe for concurrent use.
type Manifest struct {
	entries []Entry // sorted by path, parents before children
	files   int
	bytes   int64
}

// newManifest describes the tree of entries, which it sorts and keeps.
func newManifest(entries []Entry) Manifest {
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	m := Manifest{entries: entries}
	for _, e := range entries {
		if e.Kind == File {
			m.files++
			m.bytes += e.Size
		}
	}
	return m
}

// Entries yields all entries sorted by the bytes of their path, so that a directory comes before what is in it.
func (m Manifest) Entries() iter.Seq[Entry] { return slices.Values(m.entries) }

// Files is the number of regular files.
func (m Manifest) Files() int { return m.files }

// Bytes is the total size of the regular files.
func (m Manifest) Bytes() int64 { return m.bytes }

// Lookup finds the entry at a clean slash-separated path; see [Manifest.Resolve] for any other. "." is the tree itself.
func (m Manifest) Lookup(path string) (Entry, bool) {
	if path == "." {
		return Entry{Path: ".", Kind: Dir, Mode: 0o755}, true
	}
	if i, ok := m.find(path); ok {
		return m.entries[i], true
	}
	return Entry{}, false
}

func (m Manifest) find(path string) (int, bool) {
	return slices.BinarySearchFunc(m.entries, path, func(e Entry, p string) int { return strings.Compare(e.Path, p) })
}

// Digest names the tree: the SHA-256 of its encoded manifest in 64 lower-case hexadecimal digits. Trees with the same
// paths, kinds, modes, contents and link targets have the same digest on every machine; times and owners do not count.
// It encodes the manifest on each call.
func (m Manifest) Digest() string {
	sum := sha256.Sum256(m.Encode())
	return hex.EncodeToString(sum[:])
}

// Encode renders the manifest as text: a header with the number of entries and the bytes of all regular files, then
// one entry a line in six fields parted by one space,
//
//	sandboxer-manifest 1 3 12
//	d 0755 0 - bin -
//	f 0755 12 <sha256> bin/run\0040me -
//	l - 0 - latest bin/run\0040me
//
// kind, mode, size, SHA-256, path and link target, with "-" where a kind has no such field. In paths and targets every
// byte but ASCII letters, digits and ._/-+,=@: is written as a backslash, 0 and three octal digits, which the %b of a
// POSIX printf turns back. The text is therefore ASCII, one line an entry, and inert between quotes of a shell. One
// tree has one encoding.
func (m Manifest) Encode() []byte {
	b := fmt.Appendf(nil, "%s%d %d\n", manifestHeader, len(m.entries), m.bytes)
	for _, e := range m.entries {
		b = append(b, byte(e.Kind), ' ')
		if e.Kind == Symlink {
			b = append(b, '-')
		} else {
			b = fmt.Appendf(b, "%04o", e.Mode)
		}
		b = append(b, ' ')
		b = strconv.AppendInt(b, e.Size, 10)
		b = append(b, ' ')
		if e.Kind == File {
			b = append(b, e.SHA256...)
		} else {
			b = append(b, '-')
		}
		b = append(b, ' ')
		b = appendEscaped(b, e.Path)
		b = append(b, ' ')
		if e.Kind == Symlink {
			b = appendEscaped(b, e.Link)
		} else {
			b = append(b, '-')
		}
		b = append(b, '\n')
	}
	return b
}

const manifestHeader = "sandboxer-manifest 1 "

// ParseManifest decodes what [Manifest.Encode] wrote. It accepts no other text and no tree that [Take] would refuse,
// whoever wrote it.
func ParseManifest(text []byte) (Manifest, error) {
	header, body, _ := strings.Cut(string(text), "\n")
	if !strings.HasPrefix(header, manifestHeader) {
		return Manifest{}, errors.New("not a manifest of version 1")
	}
	var entries []Entry
	line := 1
	for text := range strings.Lines(body) {
		line++
		e, err := parseEntry(strings.TrimSuffix(text, "\n"))
		if err != nil {
			return Manifest{}, fmt.Errorf("manifest line %d: %w", line, err)
		}
		entries = append(entries, e)
	}
	m := newManifest(entries)
	if err := m.check(); err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	// One tree has one encoding, so this also finds a wrong count, a wrong order and a spelling of its own.
	if string(m.Encode()) != string(text) {
		return Manifest{}, errors.New("manifest is cut short or not in its canonical form")
	}
	return m, nil
}

func parseEntry(line string) (Entry, error) {
	f := strings.Split(line, " ")
	if len(f) != 6 || len(f[0]) != 1 {
		return Entry{}, errors.New("not six fields")
	}
	e := Entry{Kind: Kind(f[0][0])}
	var err error
	if e.Path, err = unescape(f[4]); err != nil {
		return Entry{}, err
	}
	switch e.Kind {
	case Dir:
		e.Mode = 0o755
	case Symlink:
		if e.Link, err = unescape(f[5]); err != nil {
			return Entry{}, err
		}
	case File:
		e.SHA256 = f[3]
		mode, err := strconv.ParseUint(f[1], 8, 32)
		if err != nil {
			return Entry{}, err
		}
		e.Mode = uint32(mode)
		if e.Size, err = strconv.ParseInt(f[2], 10, 64); err != nil {
			return Entry{}, err
		}
	default:
		return Entry{}, fmt.Errorf("unknown kind %q", f[0])
	}
	return e, nil
}

// check says what in a decoded manifest cannot come from Take.
func (m Manifest) check() error {
	var bytes int64
	for i, e := range m.entries {
		if !fs.ValidPath(e.Path) || e.Path == "." {
			return fmt.Errorf("%q is not a clean relative path", e.Path)
		}
		if i > 0 && m.entries[i-1].Path == e.Path {
			return fmt.Errorf("%q is there twice", e.Path)
		}
		if parent, ok := m.Lookup(path.Dir(e.Path)); !ok || parent.Kind != Dir {
			return fmt.Errorf("%q is not in a directory", e.Path)
		}
		if isGit(path.Base(e.Path)) || isMarker(e.Path) {
			return fmt.Errorf("%q has a reserved name", e.Path)
		}
		if reason := badName(e.Path); reason != "" {
			return fmt.Errorf("%q %s", e.Path, reason)
		}
		if reason := badLink(e); reason != "" && e.Kind == Symlink {
			return fmt.Errorf("%q is %s", e.Path, reason)
		}
		if e.Kind != File {
			continue
		}
		if e.Mode != 0o755 && e.Mode != 0o644 {
			return fmt.Errorf("%q has mode %o", e.Path, e.Mode)
		}
		if e.Size < 0 || bytes > math.MaxInt64-e.Size {
			return fmt.Errorf("%q has size %d", e.Path, e.Size)
		}
		bytes += e.Size
		if sum, err := hex.DecodeString(e.SHA256); err != nil || len(sum) != sha256.Size || e.SHA256 != strings.ToLower(e.SHA256) {
			return fmt.Errorf("%q has no SHA-256", e.Path)
		}
	}
	return nil
}

// isGit reports whether git would take a file of this name for a repository, also where names differ by case only.
func isGit(name string) bool { return strings.EqualFold(name, ".git") }

func isMarker(path string) bool { return strings.EqualFold(path, MarkerName) }

// badName says what forbids a name or a link target to travel, "" when nothing does.
func badName(name string) string {
	if !utf8.ValidString(name) {
		return "is not valid UTF-8"
	}
	if strings.ContainsFunc(name, unicode.IsControl) {
		return "holds a control character"
	}
	return ""
}

// badLink says what forbids the text of a link to travel, "" when nothing does.
func badLink(e Entry) string {
	if e.Link == "" {
		return "a symbolic link to nothing"
	}
	if reason := badName(e.Link); reason != "" {
		return fmt.Sprintf("a symbolic link to %q, which %s", e.Link, reason)
	}
	return ""
}

func appendEscaped(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; isPlain(c) {
			b = append(b, c)
		} else {
			b = append(b, '\\', '0', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
		}
	}
	return b
}

func isPlain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("._/-+,=@:", c) >= 0
}

func unescape(s string) (string, error) {
	var b strings.Builder
	for {
		plain, rest, escaped := strings.Cut(s, `\`)
		b.WriteString(plain)
		if !escaped {
			return b.String(), nil
		}
		if len(rest) < 4 {
			return "", errors.New("incomplete escape")
		}
		c, err := strconv.ParseUint(rest[:4], 8, 8)
		if err != nil {
			return "", fmt.Errorf("bad escape: %w", err)
		}
		b.WriteByte(byte(c))
		s = rest[4:]
	}
}
