package proxy

import (
	"testing"

	"github.com/sand-boxer/sandboxer/compose/internal/program"
	"github.com/sand-boxer/sandboxer/compose/internal/program/programtest"
)

func TestBinariesAreThoseOfTheSources(t *testing.T) {
	programtest.MatchesSources(t, binaries, program.Recipe{Name: "proxy", Main: "./cmd/proxy", Sources: []string{"cmd/proxy", "../../../internal/allowlist"}})
}
