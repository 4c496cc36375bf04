package sandboxer_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
)

func TestDurationReads(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0s": 0, "1ms": time.Millisecond, "45s": 45 * time.Second, "30m": 30 * time.Minute, "1m30s": 90 * time.Second,
		"2h": 2 * time.Hour, "1h30m": 90 * time.Minute, "1h0m5s": time.Hour + 5*time.Second, "10h10m": 10*time.Hour + 10*time.Minute,
		"20h": 20 * time.Hour, "-5m": -5 * time.Minute, "1h30m0.5s": 90*time.Minute + 500*time.Millisecond,
	} {
		d := sandboxer.Duration(d)
		if got := d.String(); got != want {
			t.Errorf("%v reads %q, want %q", d.Std(), got, want)
		}
		roundTrip(t, d)
	}
	for _, bad := range []string{`"soon"`, `"30"`, `""`, `30`, `"1d"`} {
		var d sandboxer.Duration
		if err := json.Unmarshal([]byte(bad), &d); err == nil {
			t.Errorf("%s is taken for %v", bad, d)
		}
	}
}

func TestBytesRead(t *testing.T) {
	for want, b := range map[string]sandboxer.Bytes{
		"0": 0, "1": 1, "1000": 1000, "1Ki": 1 << 10, "1025": 1025, "512Mi": 512 << 20, "1536Mi": 1536 << 20, "2Gi": 2 << 30, "3Ti": 3 << 40, "4096Ti": 1 << 52,
	} {
		if got := b.String(); got != want {
			t.Errorf("%d reads %q, want %q", int64(b), got, want)
		}
		roundTrip(t, b)
	}
	for _, bad := range []string{`"2GB"`, `"2G"`, `"-1"`, `"1.5Gi"`, `""`, `"Mi"`, `"9000000Ti"`, `"9223372036854775808"`, `2`} {
		var b sandboxer.Bytes
		if err := json.Unmarshal([]byte(bad), &b); err == nil {
			t.Errorf("%s is taken for %v", bad, b)
		}
	}
}

func roundTrip[T comparable](t *testing.T, v T) {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var again T
	if err := json.Unmarshal(text, &again); err != nil || again != v {
		t.Errorf("%v written as %s reads %v, %v", v, text, again, err)
	}
}

func FuzzDuration(f *testing.F) {
	for _, s := range []string{"30m", "1h30m", "1h0m5s", "-1.5h", "0", "1ns"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var d sandboxer.Duration
		if d.UnmarshalText([]byte(s)) == nil {
			roundTrip(t, d)
		}
	})
}

func FuzzBytes(f *testing.F) {
	for _, s := range []string{"512Mi", "2Gi", "1024", "0Ki", "+7"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var b sandboxer.Bytes
		if b.UnmarshalText([]byte(s)) == nil {
			roundTrip(t, b)
		}
	})
}
