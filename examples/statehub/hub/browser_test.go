//go:build unix

package hub_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A browser is a real Chromium without a window.
type browser struct {
	t    *testing.T
	path string
}

// newBrowser skips a test where there is no Chromium, and fails it where
// everything that tests need is required, unless set-up found that none can be
// installed and nobody insists.
func newBrowser(t *testing.T) *browser {
	t.Helper()
	if os.Getenv("SANDBOXER_WITHOUT_BROWSER") == "1" && os.Getenv("SANDBOXER_REQUIRE_BROWSER") != "1" {
		t.Skip("set-up found no browser that it could install")
	}
	names := []string{"google-chrome", "chromium", "chromium-browser"} // on Ubuntu, Chromium may be a snap, which does not see our files
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return &browser{t, path}
		}
	}
	problem := "needs one of " + strings.Join(names, ", ") + "; scripts/setup test installs it where it can"
	if os.Getenv("SANDBOXER_REQUIRE_ENGINE") == "1" {
		t.Fatal(problem)
	}
	t.Skip(problem)
	return nil
}

// browserPatience is for a machine that is busy with other tests.
const browserPatience = 2 * time.Minute

// run starts the browser on a page and waits for its end, or makes one. It
// reaches this machine only.
func (b *browser) run(url string, args ...string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), browserPatience)
	defer cancel()
	args = append(args, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--no-first-run", "--disable-extensions", "--disable-sync", "--disable-breakpad",
		"--disable-background-networking", "--disable-component-update", "--disable-default-apps",
		"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--enable-logging=stderr",
		"--force-device-scale-factor=1", "--hide-scrollbars", "--lang=en-US",
		"--user-data-dir="+b.t.TempDir(), url)
	cmd := exec.CommandContext(ctx, b.path, args...)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	// its many processes are a group, which ends as a whole
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if kill := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); kill != nil && !errors.Is(kill, syscall.ESRCH) {
		b.t.Error(kill)
	}
	if err != nil {
		b.t.Fatalf("%s %s: %v\n%s", b.path, url, err, &log)
	}
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "CONSOLE") {
			b.t.Errorf("the browser complains of %s: %s", url, line)
		}
	}
	return out.String()
}

// dom is the page as the browser understood it.
func (b *browser) dom(url string) string {
	b.t.Helper()
	return b.run(url, "--dump-dom")
}

// picture is what a person sees, kept as an artefact of the test.
func (b *browser) picture(url, name string, width, height int, args ...string) image.Image {
	b.t.Helper()
	path := filepath.Join(b.t.ArtifactDir(), name)
	b.run(url, append(args, "--screenshot="+path, fmt.Sprintf("--window-size=%d,%d", width, height))...)
	f, err := os.Open(path)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		b.t.Fatal(err)
	}
	if got := img.Bounds().Size(); got != image.Pt(width, height) {
		b.t.Errorf("%s is of size %v, want %dx%d", name, got, width, height)
	}
	return img
}

// pixels counts those of exactly one colour, written as in the style sheet.
func pixels(t *testing.T, img image.Image, hex string) int {
	t.Helper()
	want := color.RGBA{A: 255}
	if _, err := fmt.Sscanf(hex, "#%02x%02x%02x", &want.R, &want.G, &want.B); err != nil {
		t.Fatal(err)
	}
	n, bounds := 0, img.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			if color.RGBAModel.Convert(img.At(x, y)) == want {
				n++
			}
		}
	}
	return n
}
