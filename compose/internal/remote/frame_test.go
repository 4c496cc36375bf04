package remote

import (
	"bytes"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
)

func TestFrameFindsThePayloadHoweverTheStreamIsCut(t *testing.T) {
	const nonce = "sbx-0123456789abcdef"
	tests := []struct {
		name, stream, payload, noise string
		ended                        bool
		code                         int
	}{
		{name: "plain", stream: nonce + " begin\nhello" + nonce + " end 0\n", payload: "hello", ended: true},
		{name: "empty", stream: nonce + " begin\n" + nonce + " end 12\n", ended: true, code: 12},
		{name: "noise around", stream: "motd\nno newline" + nonce + " begin\nx\n" + nonce + " end 1\nbye", payload: "x\n", noise: "motd\nno newline", ended: true, code: 1},
		{name: "near markers in the noise", stream: "sbx-" + nonce + " begi" + nonce + " begin\nx" + nonce + " end 0\n", payload: "x", noise: "sbx-" + nonce + " begi", ended: true},
		{name: "near markers in the payload", stream: nonce + " begin\nsbx-0123sbx-" + nonce + " en" + nonce + " end 3\n", payload: "sbx-0123sbx-" + nonce + " en", ended: true, code: 3},
		{name: "another begin in the payload", stream: nonce + " begin\n" + nonce + " begin\n" + nonce + " end 0\n", payload: nonce + " begin\n", ended: true},
		{name: "beats", stream: nonce + " begin\n" + nonce + " beat\none" + nonce + " beat\n" + nonce + " beat\n, two\n" + nonce + " bea" + nonce + " beat\n" + nonce + " end 0\n", payload: "one, two\n" + nonce + " bea", ended: true},
		{name: "cut before the begin", stream: "noise " + nonce + " beg", noise: "noise "},
		{name: "cut in the payload", stream: nonce + " begin\nhalf", payload: "half"},
		{name: "cut in the end marker", stream: nonce + " begin\nall" + nonce + " end", payload: "all"},
		{name: "cut in the exit code", stream: nonce + " begin\nall" + nonce + " end 1", payload: "all"},
		{name: "only an end", stream: nonce + " end 0\n", noise: nonce + " end 0\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for round := range 100 {
				var payload bytes.Buffer
				f := newFrame(nonce, &payload)
				for rest := []byte(tt.stream); len(rest) > 0; {
					n := len(rest)
					if round > 0 {
						n = 1 + rand.IntN(min(len(rest), round))
					}
					if _, err := f.Write(rest[:n]); err != nil {
						t.Fatal(err)
					}
					rest = rest[n:]
				}
				if payload.String() != tt.payload || f.ended != tt.ended || tt.ended && f.exitCode != tt.code {
					t.Fatalf("payload %q, ended %v with %d; want %q, %v with %d", payload.String(), f.ended, f.exitCode, tt.payload, tt.ended, tt.code)
				}
				if got := string(f.noise.bytes()); got != tt.noise {
					t.Fatalf("noise %q, want %q", got, tt.noise)
				}
			}
		})
	}
}

func TestFrameHoldsBackNothingThatIsCertain(t *testing.T) {
	var payload bytes.Buffer
	f := newFrame("sbx-1", &payload)
	io.WriteString(f, "sbx-1 begin\nfollow me")
	if payload.String() != "follow me" {
		t.Errorf("passed on %q so far", payload.String())
	}
	io.WriteString(f, "sbx-")
	io.WriteString(f, "2")
	if payload.String() != "follow mesbx-2" {
		t.Errorf("passed on %q so far", payload.String())
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	text := strings.Repeat("0123456789", 1000)
	tl := &tail{limit: 64}
	if _, err := io.Copy(tl, iotest.OneByteReader(strings.NewReader(text))); err != nil {
		t.Fatal(err)
	}
	if got := string(tl.bytes()); got != text[len(text)-64:] {
		t.Errorf("kept %q", got)
	}
	tl.Write([]byte(text))
	if got := string(tl.bytes()); got != text[len(text)-64:] {
		t.Errorf("kept %q of one large write", got)
	}
}
