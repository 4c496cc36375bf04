package admission

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// siblingBases lets a Dockerfile start from, or copy from, an image that
// another service of the file builds. The host knows that image by the
// sandbox's name for it alone, and another by the name in the Dockerfile, if
// any: so the build gets a copy of the Dockerfile that says the former.
func (j *judge) siblingBases(at attr, name string, out *build) {
	if j.Tree == nil || len(j.images) == 0 {
		return
	}
	if out.pinned == "" { // one that has a .dockerignore of its own cannot have another name
		if own, _ := stat(j.Tree, path.Join(out.context.path, out.dockerfile)+".dockerignore"); own != missing {
			return
		}
	}
	text, problem := j.readDockerfile(out)
	if problem != "" {
		return // refused elsewhere
	}
	renamed, used := withBases(text, func(image string) string {
		if builder := j.images[normalImage(image)]; builder != "" && builder != name {
			return DefaultImagePrefix(j.ID) + "/" + imageName(builder, j.Generation)
		}
		return ""
	})
	for _, image := range slices.Sorted(maps.Keys(used)) {
		j.rewrite("IMAGE", at, fmt.Sprintf("uses %s, which is the image that the service %s builds here", image, j.images[normalImage(image)]))
	}
	switch {
	case len(used) == 0:
	case out.pinned != "":
		j.pinned(out.pinned).Data = []byte(renamed)
	default:
		out.pinned = j.pin(Pin{Data: []byte(renamed), Mode: 0o644}, name+".Dockerfile").path
	}
}

// maxDockerfile is far more than any Dockerfile needs, in bytes.
const maxDockerfile = 256 << 10

// readDockerfile reads the Dockerfile of a build: a pin, or a file of the tree.
func (j *judge) readDockerfile(out *build) (text, problem string) {
	if out.pinned != "" {
		return string(j.pinned(out.pinned).Data), ""
	}
	from := path.Join(out.context.path, out.dockerfile)
	if _, e := stat(j.Tree, from); e.Size > maxDockerfile {
		return "", fmt.Sprintf("is %s, which has %d bytes, more than %d", from, e.Size, maxDockerfile)
	}
	data, err := j.Tree.ReadFile(from, maxDockerfile)
	if err != nil {
		return "", fmt.Sprintf("is %s, which cannot be read: %v", from, err)
	}
	return string(data), ""
}

// pinned is the pin of a name.
func (j *judge) pinned(name string) *Pin {
	return &j.result.Pins[slices.IndexFunc(j.result.Pins, func(p Pin) bool { return p.Name == name })]
}

// withBases replaces the images that a Dockerfile names literally, and says
// which. A file with here-documents stays as it is: what looks like an
// instruction there may be none.
func withBases(dockerfile string, rename func(image string) string) (text string, used map[string]bool) {
	if strings.Contains(dockerfile, "<<") {
		return dockerfile, nil
	}
	var b strings.Builder
	used = map[string]bool{}
	stages, continued := map[string]bool{}, false
	for line := range strings.Lines(dockerfile) {
		words := strings.Fields(line)
		comment := len(words) > 0 && words[0][0] == '#'
		if !continued && !comment {
			if start, end := baseIn(line); !stages[strings.ToLower(line[start:end])] {
				if other := rename(line[start:end]); other != "" {
					used[line[start:end]] = true
					line = line[:start] + other + line[end:]
				}
			}
			if n := len(words); n > 3 && strings.EqualFold(words[0], "FROM") && strings.EqualFold(words[n-2], "AS") {
				stages[strings.ToLower(words[n-1])] = true
			}
		}
		b.WriteString(line)
		if !comment {
			continued = strings.HasSuffix(strings.TrimSpace(line), `\`)
		}
	}
	return b.String(), used
}

// baseIn finds the image or stage that an instruction uses; it is empty for none.
func baseIn(line string) (start, end int) {
	instruction := ""
	for word := range strings.FieldsSeq(line) {
		start = end + strings.Index(line[end:], word)
		end = start + len(word)
		flag := strings.HasPrefix(word, "--")
		switch {
		case instruction == "":
			instruction = strings.ToUpper(word)
		case instruction == "FROM" && !flag:
			return start, end
		case instruction == "COPY" && strings.HasPrefix(word, "--from="):
			return start + len("--from="), end
		case instruction != "FROM" && instruction != "COPY" || !flag:
			return 0, 0
		}
	}
	return 0, 0
}
