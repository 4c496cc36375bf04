package host

import (
	"bytes"
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/compose/internal/remote"
	"github.com/sand-boxer/sandboxer/compose/internal/workspace"
)

func TestSpike(t *testing.T) {
	ctx := context.Background()
	local, err := remote.Local()
	if err != nil {
		t.Fatal(err)
	}
	m := New(Config{Name: "local", Root: t.TempDir() + "/root"}, local)
	defer m.Close()
	facts, err := m.Probe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", facts)
	tree, err := workspace.Take(ctx, "../../../testdata/demo-repo", workspace.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	start := time.Now()
	r, err := m.Reserve(ctx, Reservation{ID: "abcdefghijklmnopqrst", Generation: 1, Attempt: "one", Expires: time.Now().Add(time.Hour), Tree: tree.Digest(), Source: "src", Meta: []byte(`{"id":"abcdefghijklmnopqrst"}`)})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%v reserve %+v", time.Since(start), r)
	if err := m.Upload(ctx, r, tree, "0:0", "src", nil); err != nil {
		t.Fatal(err)
	}
	t.Logf("%v upload", time.Since(start))
	compose := `
name: sbx-abcdefghijklmnopqrst
services:
  store:
    image: sandboxer.local/abcdefghijklmnopqrst/store:g1
    build: {context: "` + r.Dir() + `/src", dockerfile: build/store.Dockerfile, labels: {dev.sandboxer.id: abcdefghijklmnopqrst}}
    command: [serve]
    labels: {dev.sandboxer.id: abcdefghijklmnopqrst}
    networks: {default: {}}
    volumes: ["data:/data"]
networks:
  default: {name: sbx-abcdefghijklmnopqrst_default, labels: {dev.sandboxer.id: abcdefghijklmnopqrst}, ipam: {config: [{subnet: 10.201.7.0/28}]}}
volumes:
  data: {name: sbx-abcdefghijklmnopqrst_data, labels: {dev.sandboxer.id: abcdefghijklmnopqrst}}
`
	var out bytes.Buffer
	err = m.Run(ctx, r, Job{Project: "sbx-abcdefghijklmnopqrst", Build: true, Bound: time.Minute, Networks: map[string]netip.Prefix{"default": netip.MustParsePrefix("10.201.7.0/28")},
		Files: []File{{Path: "compose.yaml", Mode: 0o600, Data: []byte(compose)}}}, &out)
	t.Logf("%v run: %v\n%s", time.Since(start), err, out.String())
	left, err := m.Objects(ctx, "abcdefghijklmnopqrst")
	t.Logf("%v %v %v", time.Since(start), left, err)
	sight, err := m.Look(ctx, "abcdefghijklmnopqrst")
	t.Logf("%+v %v", sight, err)
	removal, err := m.Teardown(ctx, "abcdefghijklmnopqrst", 0)
	t.Logf("%v %+v %v", time.Since(start), removal, err)
}
