package host

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Job is what the machine is to run for a reserved sandbox.
type Job struct {
	Project  string
	Build    bool
	Bound    time.Duration // the longest any one compose call may take
	Networks map[string]netip.Prefix
	Files    []File      // compose.yaml, plan.json, pins
	Mkdirs   []string    // directories of the workspace that binds need, relative to it
	Images   [][2]string // service and image of those that are pulled if absent

	// Import is a tar archive of a root file system that becomes the image
	// ImportAs before anything starts, labelled as the sandbox's; nil: none.
	Import   []byte
	ImportAs string

	// Dockerfiles are the absolute paths of what is built: a build that was
	// killed leaves images that only its instructions tell from others.
	Dockerfiles []string
}

// A File is placed in the sandbox's directory, outside the workspace: Data, an
// empty directory, or a copy of what the workspace held before anything ran.
type File struct {
	Path string // relative to the sandbox's directory
	Mode int64
	Data []byte
	Dir  bool
	Copy string // path in the workspace of the file or directory to copy
}

// Errors of Run that are answered by preparing again.
var (
	ErrSubnetTaken = errors.New("a subnet was claimed by another sandbox meanwhile")
	ErrTreeGone    = errors.New("the cached tree was removed meanwhile")
)

// Run places the control files, starts the job unless it was started before,
// and follows it to its end, over broken links. output gets what the job
// writes, with "::stage NAME" lines in between. A job that fails is a
// [*sandboxer.StageError]. ErrSubnetTaken and ErrTreeGone: nothing was
// started. ErrConflict: the sandbox was torn down meanwhile. ErrUnavailable:
// the job was killed on the host, by a reboot for instance.
func (m *Machine) Run(ctx context.Context, r *Reserved, j Job, output io.Writer) error {
	control, err := control(r, j)
	if err != nil {
		return err
	}
	vars := r.vars()
	vars["networks"], vars["claims"] = networkLines(j.Networks), strings.Join(claims(j.Networks), " ")
	log := &jobLog{w: output}
	_, err = m.run(ctx, step{
		names: []string{"place", "start", "follow"}, vars: vars, stdout: log, persistent: true,
		before: func(vars map[string]string) { vars["offset"] = strconv.FormatInt(log.n, 10) },
		stdin:  func() io.ReadCloser { return io.NopCloser(bytes.NewReader(control)) },
	})
	switch {
	case isExit(err, exitSubnet):
		return ErrSubnetTaken
	case isExit(err, exitTree):
		return ErrTreeGone
	case isExit(err, exitJobFailed):
		return log.stageError(err.Error())
	}
	return err
}

// control packs the control files; the last entry proves that all arrived.
func control(r *Reserved, j Job) ([]byte, error) {
	files := append(slices.Clone(j.Files),
		File{Path: "mkdirs", Mode: 0o600, Data: nulTerminated(j.Mkdirs)},
		File{Path: "copies", Mode: 0o600, Data: nulTerminated(copies(j.Files))},
		File{Path: "images", Mode: 0o600, Data: imageLines(j.Images)},
		File{Path: "dockerfiles", Mode: 0o600, Data: lines(j.Dockerfiles)},
		File{Path: "jobs/up/run", Mode: 0o600, Data: []byte(jobText(r, j))},
		File{Path: "complete", Mode: 0o600},
	)
	if j.Import != nil {
		files = slices.Insert(files, 0, File{Path: "import.tar", Mode: 0o600, Data: j.Import})
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		if f.Copy != "" {
			continue
		}
		header := &tar.Header{Name: f.Path, Mode: f.Mode, Size: int64(len(f.Data)), Format: tar.FormatGNU}
		if f.Dir {
			header.Name, header.Mode, header.Typeflag = f.Path+"/", 0o755, tar.TypeDir
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("packing %s: %w", f.Path, err)
		}
		if _, err := w.Write(f.Data); err != nil {
			return nil, fmt.Errorf("packing %s: %w", f.Path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// copies lists source and target of what is copied out of the workspace.
func copies(files []File) []string {
	var out []string
	for _, f := range files {
		if f.Copy != "" {
			out = append(out, f.Copy, f.Path)
		}
	}
	return out
}

// jobText is the job's script with its values before it.
func jobText(r *Reserved, j Job) string {
	build := "0"
	if j.Build {
		build = "1"
	}
	bound := max(1, int(j.Bound.Seconds()))
	return fmt.Sprintf("id=%s\nproject=%s\nbuild=%s\nbound=%d\nimport=%s\nlabels=%s\n", quote(r.ID), quote(j.Project), build, bound,
		quote(j.ImportAs), quote(LabelID+"="+r.ID+" "+LabelRoot+"="+r.RootID)) + script("job")
}

// quote makes one shell word of s.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func networkLines(networks map[string]netip.Prefix) string {
	lines := make([]string, 0, len(networks))
	for key, subnet := range networks {
		lines = append(lines, key+" "+subnet.String())
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// claims names the blocks of 16 addresses that the networks lie in: subnets
// that overlap share one, whatever their sizes.
func claims(networks map[string]netip.Prefix) []string {
	var blocks []string
	for _, subnet := range networks {
		bits := min(subnet.Bits(), blockBits)
		first := binary.BigEndian.Uint32(netip.PrefixFrom(subnet.Addr(), bits).Masked().Addr().AsSlice())
		for i := range uint32(1) << (blockBits - bits) {
			var block [4]byte
			binary.BigEndian.PutUint32(block[:], first+i<<(32-blockBits))
			blocks = append(blocks, fmt.Sprintf("%v_%d", netip.AddrFrom4(block), blockBits))
		}
	}
	slices.Sort(blocks)
	return slices.Compact(blocks)
}

const blockBits = 28

func nulTerminated(paths []string) []byte {
	var b []byte
	for _, p := range paths {
		b = append(append(b, p...), 0)
	}
	return b
}

func lines(all []string) []byte {
	var b []byte
	for _, line := range all {
		b = append(append(b, line...), '\n')
	}
	return b
}

func imageLines(images [][2]string) []byte {
	var b []byte
	for _, i := range images {
		b = fmt.Appendf(b, "%s %s\n", i[0], i[1])
	}
	return b
}
