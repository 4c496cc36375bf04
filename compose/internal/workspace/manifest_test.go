package workspace

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var sumOfNothing = hex.EncodeToString(sha256.New().Sum(nil))

// goldenManifest is that of goldenTree.
const (
	goldenManifest = `sandboxer-manifest 1 9 27
f 0644 4 91d6a3d55e9fea7911c537afae6607c77fa8bc0f3a76c375e104ac5a8cfa84db .env -
d 0755 0 - bin -
f 0755 10 a8076d3d28d21e02012b20eaf7dbf75409a6277134439025f282e368e3305abf bin/run\0040me -
f 0644 13 fa6ccea1ca4e3a031d9e99f25cc05db803aa9bac642c000ddab14f6d9da54b52 compose.yaml -
d 0755 0 - data -
d 0755 0 - data/empty -
l - 0 - gone a\0134b
l - 0 - latest bin/run\0040me
f 0644 0 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 \0303\0274n\0303\0257 -
`
	goldenDigest = "8b900affc5b4f05fac6215f60e952fa5b41c91ab4226f51e6e0a4f760d22210c"
)

// listing is a tree in the notation of plant.
func listing(m Manifest) []string {
	list := []string{}
	for e := range m.Entries() {
		switch {
		case e.Kind == Dir:
			list = append(list, e.Path+"/")
		case e.Kind == Symlink:
			list = append(list, e.Path+"->"+e.Link)
		case e.Mode == 0o755:
			list = append(list, e.Path+"*")
		default:
			list = append(list, e.Path)
		}
	}
	return list
}

func TestEmptyManifest(t *testing.T) {
	var empty Manifest
	m, err := ParseManifest(empty.Encode())
	if err != nil || string(empty.Encode()) != "sandboxer-manifest 1 0 0\n" {
		t.Fatalf("%q, %v", empty.Encode(), err)
	}
	if m.Digest() != empty.Digest() || m.Files() != 0 || m.Bytes() != 0 {
		t.Errorf("%+v", m)
	}
}

func TestParseManifestRefuses(t *testing.T) {
	file := func(path string) string { return "f 0644 0 " + sumOfNothing + " " + path + " -\n" }
	tests := []struct{ name, text, want string }{
		{"nothing", "", "not a manifest"},
		{"another version", "sandboxer-manifest 2 0 0\n", "not a manifest"},
		{"no end of line", "sandboxer-manifest 1 0 0", "cut short"},
		{"fewer entries than announced", "sandboxer-manifest 1 2 0\n" + file("a"), "cut short"},
		{"more entries than announced", "sandboxer-manifest 1 0 0\n" + file("a"), "canonical"},
		{"another number of bytes than announced", "sandboxer-manifest 1 1 1\n" + file("a"), "canonical"},
		{"a cut line", "sandboxer-manifest 1 1 0\n" + strings.TrimSuffix(file("a"), "\n"), "cut short"},
		{"a line cut in a field", "sandboxer-manifest 1 1 0\nf 0644 0", "line 2: not six fields"},
		{"an empty line", "sandboxer-manifest 1 1 0\n\n" + file("a"), "line 2: not six fields"},
		{"an unknown kind", "sandboxer-manifest 1 1 0\np 0644 0 - a -\n", `line 2: unknown kind "p"`},
		{"two spaces", "sandboxer-manifest 1 1 0\nd  0755 0 - a -\n", "not six fields"},
		{"wrong order", "sandboxer-manifest 1 2 0\n" + file("b") + file("a"), "canonical"},
		{"a path twice", "sandboxer-manifest 1 2 0\n" + file("a") + file("a"), `"a" is there twice`},
		{"no parent", "sandboxer-manifest 1 1 0\n" + file("a/b"), `"a/b" is not in a directory`},
		{"a file as parent", "sandboxer-manifest 1 2 0\n" + file("a") + file("a/b"), `"a/b" is not in a directory`},
		{"a link as parent", "sandboxer-manifest 1 2 0\nl - 0 - a x\n" + file("a/b"), `"a/b" is not in a directory`},
		{"the tree itself", "sandboxer-manifest 1 1 0\nd 0755 0 - . -\n", "not a clean relative path"},
		{"an absolute path", "sandboxer-manifest 1 1 0\n" + file("/etc"), "not a clean relative path"},
		{"a path out of the tree", "sandboxer-manifest 1 1 0\n" + file("../a"), "not a clean relative path"},
		{"an unclean path", "sandboxer-manifest 1 1 0\n" + file("./a"), "not a clean relative path"},
		{"an empty path", "sandboxer-manifest 1 1 0\nd 0755 0 -  -\n", "not a clean relative path"},
		{"a repository", "sandboxer-manifest 1 2 0\nd 0755 0 - a -\nd 0755 0 - a/.Git -\n", "reserved name"},
		{"the marker", "sandboxer-manifest 1 1 0\n" + file(".sandboxer-manifest"), "reserved name"},
		{"a link to broken UTF-8", "sandboxer-manifest 1 1 0\nl - 0 - a \\0377\n", "not valid UTF-8"},
		{"an escaped newline", "sandboxer-manifest 1 1 0\n" + file(`a\0012b`), "control character"},
		{"broken UTF-8", "sandboxer-manifest 1 1 0\n" + file(`\0377`), "not a clean relative path"},
		{"a needless escape", "sandboxer-manifest 1 1 0\n" + file(`\0141`), "canonical"},
		{"a missing escape", "sandboxer-manifest 1 1 0\n" + file("a$b"), "canonical"},
		{"a cut escape", "sandboxer-manifest 1 1 0\n" + file(`a\04`), "incomplete escape"},
		{"an escape that is no number", "sandboxer-manifest 1 1 0\n" + file(`a\00x0`), "bad escape"},
		{"an escape beyond a byte", "sandboxer-manifest 1 1 0\n" + file(`a\0777`), "bad escape"},
		{"a strange mode", "sandboxer-manifest 1 1 0\nf 4755 0 " + sumOfNothing + " a -\n", "mode 4755"},
		{"a strange mode of a directory", "sandboxer-manifest 1 1 0\nd 0777 0 - a -\n", "canonical"},
		{"no mode", "sandboxer-manifest 1 1 0\nf - 0 " + sumOfNothing + " a -\n", "line 2"},
		{"a negative size", "sandboxer-manifest 1 1 -1\nf 0644 -1 " + sumOfNothing + " a -\n", "size -1"},
		{"a size with a zero before it", "sandboxer-manifest 1 1 0\nf 0644 00 " + sumOfNothing + " a -\n", "canonical"},
		{"sizes that overflow", "sandboxer-manifest 1 2 0\nf 0644 9223372036854775807 " + sumOfNothing + " a -\nf 0644 1 " + sumOfNothing + " b -\n", "size 1"},
		{"no checksum", "sandboxer-manifest 1 1 0\nf 0644 0 - a -\n", "no SHA-256"},
		{"a short checksum", "sandboxer-manifest 1 1 0\nf 0644 0 abcd a -\n", "no SHA-256"},
		{"an upper-case checksum", "sandboxer-manifest 1 1 0\nf 0644 0 " + strings.ToUpper(sumOfNothing) + " a -\n", "no SHA-256"},
		{"an empty link", "sandboxer-manifest 1 1 0\nl - 0 - a \n", "link to nothing"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if m, err := ParseManifest([]byte(test.text)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, %v; want an error with %q", listing(m), err, test.want)
			}
		})
	}
}

func TestDiff(t *testing.T) {
	file := func(path, content string) Entry {
		sum := sha256.Sum256([]byte(content))
		return Entry{Path: path, Kind: File, Mode: 0o644, Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])}
	}
	executable := func(e Entry) Entry { e.Mode = 0o755; return e }
	dir := func(path string) Entry { return Entry{Path: path, Kind: Dir, Mode: 0o755} }
	link := func(path, target string) Entry { return Entry{Path: path, Kind: Symlink, Link: target} }
	tests := []struct {
		name       string
		base, tree []Entry
		send       []string
		gone       []string
	}{
		{"nothing changes", []Entry{dir("a"), file("a/b", "1")}, []Entry{dir("a"), file("a/b", "1")}, nil, nil},
		{"from nothing", nil, []Entry{dir("a"), file("a/b", "1"), link("l", "a")}, []string{"a", "a/b", "l"}, nil},
		{"to nothing", []Entry{dir("a"), file("a/b", "1"), link("l", "a")}, nil, nil, []string{"a", "l"}},
		{"a changed file comes with the directories above it",
			[]Entry{dir("a"), dir("a/b"), file("a/b/c", "1"), file("a/x", "1")}, []Entry{dir("a"), dir("a/b"), file("a/b/c", "2"), file("a/x", "1")},
			[]string{"a", "a/b", "a/b/c"}, []string{"a/b/c"}},
		{"a mode", []Entry{file("a", "1")}, []Entry{executable(file("a", "1"))}, []string{"a"}, []string{"a"}},
		{"a target", []Entry{link("a", "x")}, []Entry{link("a", "y")}, []string{"a"}, []string{"a"}},
		{"a file becomes a directory", []Entry{file("a", "1")}, []Entry{dir("a"), file("a/b", "1")}, []string{"a", "a/b"}, []string{"a"}},
		{"a directory becomes a link", []Entry{dir("a"), dir("a/b"), file("a/b/c", "1")}, []Entry{link("a", "z")}, []string{"a"}, []string{"a"}},
		{"a directory goes, its neighbour by name stays",
			[]Entry{dir("a"), file("a-b", "1"), file("a/b", "1")}, []Entry{file("a-b", "1")}, nil, []string{"a"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			base, tree := newManifest(test.base), newManifest(test.tree)
			d := tree.Diff(base)
			var send []string
			var bytes int64
			for _, e := range d.Send {
				send = append(send, e.Path)
				bytes += e.Size
			}
			if diff := cmp.Diff(test.send, send); diff != "" {
				t.Errorf("send: %s", diff)
			}
			if diff := cmp.Diff(test.gone, d.Delete); diff != "" {
				t.Errorf("delete: %s", diff)
			}
			if d.Bytes() != bytes {
				t.Errorf("%d bytes, want %d", d.Bytes(), bytes)
			}
		})
	}
}

// apply does with a model of a tree what a host does with a directory, and says what a host would stumble over.
func apply(base Manifest, d Diff) (Manifest, error) {
	tree := map[string]Entry{".": {Kind: Dir}}
	for e := range base.Entries() {
		tree[e.Path] = e
	}
	for _, gone := range d.Delete {
		if _, ok := tree[gone]; !ok {
			return Manifest{}, fmt.Errorf("delete %q: not there", gone)
		}
		for p := range tree {
			if p == gone || strings.HasPrefix(p, gone+"/") {
				delete(tree, p)
			}
		}
	}
	for _, e := range d.Send {
		if tree[path.Dir(e.Path)].Kind != Dir {
			return Manifest{}, fmt.Errorf("send %q: not in a directory", e.Path)
		}
		if old, ok := tree[e.Path]; ok && old.Kind != Dir {
			return Manifest{}, fmt.Errorf("send %q: would be written in place", e.Path)
		}
		tree[e.Path] = e
	}
	delete(tree, ".")
	var entries []Entry
	for _, e := range tree {
		entries = append(entries, e)
	}
	return newManifest(entries), nil
}

// grow makes a tree of what the bytes of seed happen to say. Two seeds share many paths, so that trees overlap.
func grow(seed []byte) Manifest {
	names := []string{"a", "b", "a-b", "a b", "$(x)", "ü", `\0040`, "-", ".", "..", "a.b", "'", "*", "~", "\U0001F4E6"}
	tree := map[string]Entry{}
	for len(seed) >= 4 {
		depth, kind, content, pick := seed[0]%4, seed[1], seed[2], seed[3]
		seed = seed[4:]
		at := "."
		for range depth {
			next := path.Join(at, names[int(pick)%len(names)])
			if e, ok := tree[next]; ok && e.Kind == Dir {
				at = next
			}
			pick = pick*7 + 3
		}
		name := names[int(pick)%len(names)]
		if name == "." || name == ".." {
			name += "x"
		}
		e := Entry{Path: path.Join(at, name)}
		if old, ok := tree[e.Path]; ok && old.Kind == Dir {
			continue
		}
		switch kind % 4 {
		case 0, 1:
			e.Kind, e.Mode = Dir, 0o755
		case 2:
			sum := sha256.Sum256([]byte{content})
			e.Kind, e.Size, e.SHA256 = File, int64(content), hex.EncodeToString(sum[:])
			e.Mode = [2]uint32{0o644, 0o755}[content%2]
		case 3:
			e.Kind, e.Link = Symlink, "nowhere/"+names[int(content)%len(names)]
		}
		tree[e.Path] = e
	}
	var entries []Entry
	for _, e := range tree {
		entries = append(entries, e)
	}
	return newManifest(entries)
}

// checkTrees holds for any two trees.
func checkTrees(t *testing.T, base, tree Manifest) {
	t.Helper()
	for _, m := range []Manifest{base, tree} {
		decoded, err := ParseManifest(m.Encode())
		if err != nil {
			t.Fatalf("%v of\n%s", err, m.Encode())
		}
		if diff := cmp.Diff(m.entries, decoded.entries); diff != "" {
			t.Fatalf("decoded differently:\n%s", diff)
		}
		if again := m.Diff(decoded); len(again.Send)+len(again.Delete) > 0 {
			t.Fatalf("differs from itself: %+v", again)
		}
	}
	d := tree.Diff(base)
	got, err := apply(base, d)
	if err != nil {
		t.Fatalf("%v, from\n%s\nto\n%s", err, base.Encode(), tree.Encode())
	}
	if diff := cmp.Diff(tree.entries, got.entries); diff != "" {
		t.Fatalf("the difference leads elsewhere:\n%s", diff)
	}
}

func TestAnyTreeEncodesAndAnyTwoDiffer(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	bytes := make([]byte, 400)
	entries := 0
	for range 2000 {
		for i := range bytes {
			bytes[i] = byte(random.Uint32())
		}
		cut := random.IntN(len(bytes))
		base, tree := grow(bytes[:cut]), grow(bytes[cut:])
		entries += len(base.entries)
		checkTrees(t, base, tree)
	}
	if entries < 2000*10 {
		t.Errorf("only %d entries in 2000 trees: the trees are too small to tell", entries)
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte("sandboxer-manifest 1 0 0\n"), []byte{})
	f.Add([]byte("sandboxer-manifest 1 3 0\nd 0755 0 - a -\nf 0644 0 "+sumOfNothing+" a/b\\0040c -\nl - 0 - l a\n"), []byte("0123456789abcdef"))
	f.Add([]byte(goldenManifest), []byte("fedcba9876543210"))
	f.Add([]byte("sandboxer-manifest 1 2 0\nl - 0 - a b/..\nl - 0 - b a\n"), []byte("aaaabbbbccccdddd"))
	f.Fuzz(func(t *testing.T, text, seed []byte) {
		base := grow(seed)
		m, err := ParseManifest(text)
		if err == nil {
			if string(m.Encode()) != string(text) {
				t.Fatalf("accepted %q, which it would write as %q", text, m.Encode())
			}
			for e := range m.Entries() {
				if !fs.ValidPath(e.Path) || strings.ContainsAny(e.Path+e.Link, "\n\x00") || (e.Kind == Symlink) != (e.Link != "") {
					t.Fatalf("accepted %+v", e)
				}
			}
		} else {
			m = grow(text)
		}
		checkTrees(t, base, m)
	})
}
