package admission_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/admission"
)

// TestImagesOfSiblings: a Dockerfile that starts from what another service
// builds gets the sandbox's own image, and never one of that name from elsewhere.
func TestImagesOfSiblings(t *testing.T) {
	const own = "sandboxer.local/" + id + "/base:g1"
	dockerfile := "# FROM shop-base\nARG V=1\nfrom --platform=$BUILDPLATFORM shop-base AS shop-tools\nRUN echo \\\n# why\nFROM shop-base\n" +
		"FROM docker.io/library/shop-base:latest as last\nCOPY --chown=1 --from=shop-base /a /b\nCOPY --from=shop-tools /a shop-base\nFROM shop-tools\n"
	tree := memoryTree{
		"compose.yaml": "services:\n  app: {build: ./app, image: shop-tools}\n  base: {build: ./base, image: shop-base}\n" +
			"  inline: {build: {context: ., dockerfile_inline: 'FROM shop-base'}}\n  other: {build: ./other}\n",
		"app/Dockerfile": dockerfile, "base/Dockerfile": "FROM shop-base\n", "other/Dockerfile": "FROM shop-base:2\nRUN cat <<E\n",
	}
	plan, a, file := accept(t, request(tree))
	want := []admission.Pin{
		{Name: "0001-app.Dockerfile", Mode: 0o644, Data: []byte("# FROM shop-base\nARG V=1\nfrom --platform=$BUILDPLATFORM " + own + " AS shop-tools\nRUN echo \\\n# why\nFROM shop-base\n" +
			"FROM " + own + " as last\nCOPY --chown=1 --from=" + own + " /a /b\nCOPY --from=shop-tools /a shop-base\nFROM shop-tools\n")},
		{Name: "0002-inline.Dockerfile", Mode: 0o644, Data: []byte("FROM " + own)},
	}
	if diff := cmp.Diff(want, plan.Pins); diff != "" {
		t.Error(diff)
	}
	for path, want := range map[string]any{
		"services/app/build/dockerfile": pinDir + "/0001-app.Dockerfile", "services/app/build/context": workdir + "/app",
		"services/base/build/dockerfile": "Dockerfile", "services/other/build/dockerfile": "Dockerfile",
	} {
		if got := at(file, path); got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
	if !slices.ContainsFunc(a.Rewrites, func(r sandboxer.Rewrite) bool {
		return r.Rule == "IMAGE" && r.Path == "services.app.build" && r.Message == "uses shop-base, which is the image that the service base builds here"
	}) {
		t.Error(a.Rewrites)
	}
}
