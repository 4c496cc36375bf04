//go:build linux

package compose_test

import (
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// shown are the files of the corpus whose harm is seen, by the danger that
// shows it: they ask for the same, in another spelling or with another value of
// the same attribute.
var shown = map[string]string{
	"privileged":                   "001-* 003-* 004-* 006-* 30[0-7]-* 438-* 444-*",
	"cap SYS_ADMIN":                "007-* 009-* 314-*",
	"file-by-handle":               "311-*",
	"disk":                         "012-* 315-* 317-*",
	"no-seccomp":                   "015-* 016-*",
	"seccomp-by-file":              "019-*",
	"no-masks":                     "320-*",
	"pid host":                     "021-*",
	"processes-of-neighbour":       "022-* 323-*",
	"shared-memory-of-neighbour":   "024-*",
	"shared-memory-of-host":        "324-*",
	"name-of-host":                 "025-*",
	"user namespace of the host":   "326-*",
	"control-group-of-host":        "027-*",
	"network host":                 "028-*",
	"network-mode-named":           "030-*",
	"IPv6-on-the-link":             "034-* 449-*",
	"routes-of-its-own":            "329-* 330-*",
	"engine-by-attribute":          "040-*",
	"image-of-a-sandbox":           "196-* 443-* 446-* 447-*",
	"image-by-id":                  "416-image-*",
	"provider":                     "170-* 171-* 413-provider-* 439-*",
	"privileged hook":              "173-*",
	"hooks that hang":              "174-* 205-*",
	"directory swapped for a link": "408-volume-*",

	"bind of the root":                   "050-* 053-* 054-* 056-* 337-* 338-* 340-* 341-* 342-* 398-* 399-* 434-* 445-*",
	"bind of the engine's socket":        "051-* 335-* 336-*",
	"bind by a variable":                 "057-*",
	"bind-through-a-link":                "059-* 060-*",
	"directory swapped before a restart": "062-* 197-* 414-restart-*",
	"volume that is an overlay":          "065-*",
	"volume that is a disk":              "066-*",
	"volume that is a bind":              "068-* 361-* 362-*",
	"volume-of-neighbour":                "069-*",
	"volume-by-name":                     "407-volume-*",
	"volumes-from-neighbour":             "072-* 364-*",
	"shared-memory-large":                "077-*",
	"shared-memory-of-all":               "431-browser-*",
	"data-of-the-host":                   "339-*",
	"tmpfs-with-programs":                "424-tmpfs-*",

	"network-of-neighbour":        "080-* 082-* 367-*",
	"network-by-legacy-name":      "366-*",
	"interface-of-the-host":       "083-* 368-*",
	"bridge of the host":          "086-* 370-*",
	"subnet of the host":          "089-* 091-* 371-* 372-* 373-*",
	"address-of-metadata-service": "094-* 374-* 375-*",
	"host-by-name":                "095-* 222-* 376-*",
	"resolver-outside":            "097-*",
	"port-on-every-address":       "098-*",
	"many ports":                  "100-* 101-*",
	"log sent from the host":      "180-*",

	"context-outside":                     "110-* 111-* 380-*",
	"context-through-a-link":              "384-*",
	"Dockerfile through a link":           "116-* 43[567]-build-* 441-*",
	"Dockerfile outside":                  "385-*",
	"build-in-the-network-of-the-host":    "117-*",
	"build-in-the-network-of-a-neighbour": "386-*",
	"build-that-finds-the-host":           "131-*",
	"image name of a neighbour":           "126-* 422-build-*",
	"build that fetches":                  "45[1-5]-build-*",

	"env file outside":                    "140-* 402-env-* 405-env-*",
	"variables-through-a-link":            "142-*",
	"FIFO as env file":                    "143-*",
	"variables-read-raw":                  "145-*",
	"labels-outside":                      "146-*",
	".env that is a link":                 "167-*",
	".env that steers compose":            "166-*",
	"secret-outside":                      "128-* 407-secret-*",
	"secret-through-a-link":               "148-*",
	"secret-of-the-client":                "149-*",
	"config-outside":                      "151-* 411-config-*",
	"config-through-a-link":               "412-config-*",
	"config-of-the-client":                "152-*",
	"variable-of-client":                  "417-environment-*",
	"variable-in-a-file":                  "429-env-*",
	"include outside":                     "155-* 161-* 393-* 394-*",
	"include through a link":              "395-*",
	"include with variables from outside": "160-*",
	"include that belongs elsewhere":      "396-*",
	"extends outside":                     "400-extends-* 401-extends-*",
	"extends through a link":              "164-*",
	"override beside the file":            "419-override-*",
	"compose file that is a link":         "216-*",
	"YAML aliases":                        "210-*",
	"YAML nested deep":                    "217-*",

	"project of a neighbour": "190-*",
	"name-of-neighbour":      "191-*",
	"labels-of-others":       "193-* 415-deploy-*",
	"labels-of-compose":      "194-*",
	"labels-of-a-file":       "416-label-*",
	"memory-large":           "411-memory-*",
	"processor-of-its-own":   "412-cpuset",
	"probe-without-pause":    "413-probe-*",
	"no-new-privileges-off":  "425-no-new-*",
}

// spared are the files whose harm is not seen, by the reason.
var spared = map[string]string{
	"asks for nothing that does harm, and is rewritten so that it runs":          "220-* 400-cap-* 401-cap-* 402-network-* 403-network-* 404-volumes-* 405-logging-* 406-static-* 409-host-* 410-secret-* 426-variable-* 427-mac-* 428-config-* 430-from-*",
	"does harm where a file is written anew, which plain compose does not do":    "154-*",
	"is refused since readers understand it differently, or not at all":          "211-* 213-* 214-* 378-* 403-env-* 404-env-* 406-dotenv-* 417-image-* 418-image-* 419-hostname-* 421-restart-* 422-key-* 423-key-* 424-key-* 425-key-* 426-tag-* 427-tag-* 428-two-* 431-required-*",
	"harms its own container at most, or engine and runtime refuse it":           "033-* 075-* 223-* 313-* 328-* 347-* 35[0-5]-*",
	"the engine has one network of the kind and refuses another":                 "085-*",
	"does harm only with what another danger shows: to mount, to join a network": "063-* 348-* 349-* 377-*",
	"asks for another capability than the two that are shown":                    "010-* 308-* 309-* 310-* 312-*",
	"names .git, of which nothing is uploaded":                                   "345-* 346-* 383-* 397-*",
	"burdens the machine for every other test on it":                             "037-* 199-* 200-* 334-* 429-deploy-* 430-scale-*",
	"needs CAP_SYS_RESOURCE, which the test's machine may lack":                  "036-* 202-* 203-* 331-* 332-* 333-*",
	"needs a device that not every machine has":                                  "013-* 042-* 318-* 319-*",
	"needs AppArmor or SELinux":                                                  "018-* 322-* 450-*",
	"makes a difference with control groups of version 2 only":                   "325-*",
	"needs a file system with quotas":                                            "039-* 432-*",
	"needs another runtime, a plugin of the engine or a store of secrets":        "031-* 071-* 092-* 327-* 363-* 408-secret-* 409-secret-* 410-config-* 440-*",
	"needs a swarm": "357-*",
	"needs a newer engine than the oldest that is supported": "088-* 316-* 321-* 356-* 358-* 369-*",
	"needs BuildKit, which the test's machine may lack":      "119-* 120-* 122-* 123-* 125-* 129-* 379-* 387-* 388-* 389-* 390-* 391-* 420-build-* 421-build-* 423-build-*",
	"needs a server outside to fetch from":                   "113-* 114-* 448-* 157-* 158-* 163-* 206-* 359-* 360-* 381-* 382-*",
	"needs a log service of the host or of a cloud":          "182-* 183-*",
	"needs Windows": "043-* 074-* 343-* 344-* 392-* 420-platform-*",
	"needs another command than up: docker compose watch": "179-* 219-*",
	"is not acted on by the compose plugins in use":       "176-* 177-* 414-pre-* 415-models-* 418-dotenv-* 433-* 442-*",
}

// scenes are the dangers that have a test each, with the rule that refuses them.
var scenes = map[string]string{"hooks that hang": "", "builds that dial out": "", "user namespace of the host": "USERNS"}

// ruleOf finds the rule against a danger; empty is that of a danger that is rewritten.
func ruleOf(name string) (rule string, known bool) {
	if d, ok := dangers[name]; ok {
		return d.rule, true
	}
	for _, members := range []map[string]member{refusedTogether, builtTogether, rewrittenTogether} {
		if m, ok := members[name]; ok {
			return m.rule, true
		}
	}
	rule, known = scenes[name]
	return rule, known
}

// TestDangersOfTheCorpus: each file of the corpus that is refused or rewritten
// belongs to one danger that is refused for the same reason, or to one reason
// why there is none.
func TestDangersOfTheCorpus(t *testing.T) {
	files := corpusFiles(t)
	owners := map[string][]string{}
	claim := func(owner, patterns string) {
		for pattern := range strings.FieldsSeq(patterns) {
			claimed := false
			for name := range files {
				if ok, err := path.Match(pattern, name); err != nil {
					t.Fatal(err)
				} else if ok {
					owners[name], claimed = append(owners[name], owner), true
				}
			}
			if !claimed {
				t.Errorf("%s: no file of the corpus is named %s", owner, pattern)
			}
		}
	}
	for danger, patterns := range shown {
		if _, known := ruleOf(danger); !known {
			t.Errorf("there is no danger %q", danger)
		}
		claim(danger, patterns)
	}
	for reason, patterns := range spared {
		claim(reason, patterns)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if len(owners[name]) != 1 {
			t.Errorf("%s belongs to one danger or one reason, has %q", name, owners[name])
			continue
		}
		if rule, shown := ruleOf(owners[name][0]); shown && rule != "" && rule != files[name] {
			t.Errorf("%s is for %s, the danger %q for %s", name, files[name], owners[name][0], rule)
		}
	}
}

// corpusFiles are the names of files of the corpus, without extension, and the
// rule that each is there for.
func corpusFiles(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, verdict := range []string{"deny", "rewrite"} {
		paths, err := filepath.Glob("internal/admission/testdata/corpus/" + verdict + "/*.yaml")
		if err != nil || len(paths) == 0 {
			t.Fatalf("the corpus is missing: %v", err)
		}
		for _, p := range paths {
			text, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			_, rest, _ := strings.Cut(string(text), "# verdict: "+verdict+" ")
			rule, _, _ := strings.Cut(rest, "\n")
			files[strings.TrimSuffix(filepath.Base(p), ".yaml")] = strings.TrimSpace(rule)
		}
	}
	return files
}
