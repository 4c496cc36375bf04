package admission_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/admission"
)

// TestNothingElseIsOpened gives the text every way to name a file of this
// machine that loads as a compose or env file, and expects none to be read.
func TestNothingElseIsOpened(t *testing.T) {
	outside := t.TempDir()
	lay := func(dir string) {
		for name, text := range map[string]string{
			"c.yml": "services: {c: {image: 'canary:1', privileged: true, environment: {C: canary}}}", ".env": "V=canary\n", "s.txt": "canary", "Dockerfile": "FROM canary",
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	lay(outside)
	here := t.TempDir()
	lay(here)
	t.Chdir(here)
	t.Setenv("HOME", outside)
	t.Setenv("V", "canary")
	t.Setenv("COMPOSE_FILE", filepath.Join(outside, "c.yml"))
	t.Setenv("COMPOSE_PROFILES", "canary")

	up := strings.Repeat("../", 30)
	names := []string{
		outside + "/c.yml", "~/c.yml", "~root/c.yml", up + outside[1:] + "/c.yml", "./" + up + outside[1:] + "/c.yml", "file://" + outside + "/c.yml",
		"./c.yml", "c.yml", "../../../c.yml", `\\` + "/c.yml", "C:/c.yml",
	}
	forms := map[string]string{
		"include":               "include: ['%s']\n",
		"include in a list":     "include: [{path: ['%s']}]\n",
		"include second":        "include: [{path: [own.yml, '%s']}]\n",
		"include by alias":      "x-a: &a ['%s']\ninclude: *a\n",
		"include by merge":      "x-a: &a {include: ['%s']}\n<<: *a\n",
		"include by merge list": "x-a: &a {include: ['%s']}\n<<: [{x-b: 1}, *a]\n",
		"include entry merged":  "x-a: &a {path: '%s'}\ninclude: [{<<: *a}]\n",
		"include tagged":        "!!str include: !override ['%s']\n",
		"nested include":        "include: [nested.yml]\n",
		"extends":               "services: {a: {extends: {file: '%s', service: c}}}\n",
		"extends by alias":      "x-e: &e {file: '%s', service: c}\nservices: {a: {extends: *e}}\n",
		"extends by merge":      "x-e: &e {file: '%s'}\nservices: {a: {extends: {<<: *e, service: c}}}\n",
		"service by merge":      "x-a: &a {extends: {file: '%s', service: c}}\nservices: {a: {<<: *a}}\n",
		"services by merge":     "x-s: &s {a: {extends: {file: '%s', service: c}}}\nservices: {<<: *s}\n",
		"services at top merge": "x-t: &t {services: {a: {extends: {file: '%s', service: c}}}}\n<<: *t\n",
		"extends of a job":      "jobs: {c: {extends: {file: '%s', service: c}}}\n",
		"include env":           "include: [{path: own.yml, env_file: '%s'}]\n",
		"include directory":     "include: [{path: own.yml, project_directory: '%s'}]\n",
		"env file":              "services: {a: {image: alpine, env_file: '%s'}}\n",
		"label file":            "services: {a: {image: alpine, label_file: '%s'}}\n",
		"secret":                "services: {a: {image: alpine, secrets: [s]}}\nsecrets: {s: {file: '%s'}}\n",
		"config":                "services: {a: {image: alpine, configs: [s]}}\nconfigs: {s: {file: '%s'}}\n",
		"Dockerfile":            "services: {a: {build: {context: ., dockerfile: '%s'}}}\n",
		"build secret":          "services: {a: {build: {context: ., secrets: [s]}}}\nsecrets: {s: {file: '%s'}}\n",
	}
	for form, text := range forms {
		for _, name := range names {
			t.Run(form+" "+name, func(t *testing.T) {
				tree := memoryTree{"own.yml": "services: {o: {image: '${V:-own}'}}", "Dockerfile": "FROM scratch", "deep/er/compose.yaml": fmt.Sprintf(strings.ReplaceAll(text, "%s", "%[1]s")+"x-n: &n %[1]s\n", name)}
				tree["deep/er/own.yml"], tree["deep/er/Dockerfile"] = tree["own.yml"], tree["Dockerfile"]
				tree["deep/er/nested.yml"] = fmt.Sprintf("include: [{path: own.yml, project_directory: '%s', env_file: '%s'}]\n", filepath.Dir(name), filepath.Dir(name)+"/.env")
				req := request(tree)
				req.File = "deep/er/compose.yaml"
				plan, a, err := admission.Check(t.Context(), req)
				if err != nil {
					t.Fatal(err)
				}
				if a.Verdict != sandboxer.Deny {
					t.Errorf("accepted: %+v", plan)
				}
				if has(a, "PRIVILEGED") {
					t.Error("judged what it says")
				}
				if seen := fmt.Sprintf("%+v %+v", plan, a); strings.Contains(seen, "canary") {
					t.Errorf("read it: %s", seen)
				}
			})
		}
	}
}

// TestOutsideIsSaid: a path that leaves the repository is called that, whatever is or is not there.
func TestOutsideIsSaid(t *testing.T) {
	for text, want := range map[string]string{
		"include: ['../../x.yml']":                                  "outside the repository",
		"include: ['.git/x.yml']":                                   "outside the repository",
		"include: ['${X}.yml']":                                     "variables are replaced",
		"services: {a: {extends: {file: ../x.yml, service: b}}}":    "outside the repository",
		"services: {a: {image: x, volumes: ['../x:/x']}}":           "outside the repository",
		"services: {a: {image: x, env_file: ../x}}":                 "outside the repository",
		"services: {a: {build: {context: ., dockerfile: ../../x}}}": "outside the repository",
	} {
		_, a, err := admission.Check(t.Context(), request(memoryTree{"compose.yaml": text, "${X}.yml": service}))
		if err != nil || !strings.Contains(fmt.Sprint(a.Violations), want) {
			t.Errorf("%s: %v %v", text, a.Violations, err)
		}
	}
}

// TestNothingIsLogged: compose-go writes to the log of the whole process,
// which is not ours to fill or to silence.
func TestNothingIsLogged(t *testing.T) {
	if os.Getenv("CHECK_NOISY_FILE") == "1" {
		accept(t, request(memoryTree{"compose.yaml": `
version: "3"
include: [b.yml]
services:
  a: {image: "x$TAG", command: ["${A:-$B}", "${C-d}"], privileged: "no", tty: "yes", init: "on", env_file: e.env, networks: [n]}
networks: {n: {external: "no"}}
`, "b.yml": "version: '2'\nservices: {b: {image: 'x$TAG', develop: {watch: [{path: ., action: rebuild}]}}}", "e.env": "A=$UNSET ${ALSO}\n"}))
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestNothingIsLogged$")
	cmd.Env = append(os.Environ(), "CHECK_NOISY_FILE=1")
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil || said.Len() > 0 {
		t.Errorf("%v: %s", err, said.String())
	}
}

// TestEnvironmentOfThisProcess: variables, home and working directory of the
// client do not reach the file.
func TestEnvironmentOfThisProcess(t *testing.T) {
	t.Setenv("LEAK", "canary")
	t.Setenv("COMPOSE_PROFILES", "more")
	_, a, file := accept(t, request(memoryTree{"compose.yaml": `
services:
  a: {image: "alpine:${LEAK:-3}", environment: [LEAK, HOME, PATH], command: ["$LEAK", "${HOME}"], build: {context: ., args: [LEAK]}}
  b: {image: x, profiles: [more]}
`, "Dockerfile": "FROM scratch"}))
	if s := fmt.Sprint(file); strings.Contains(s, "canary") || at(file, "services/b") != nil {
		t.Error(s)
	}
	if at(file, "services/a/environment") != nil {
		t.Errorf("environment %v", at(file, "services/a/environment"))
	}
	var unset []string
	for _, r := range a.Rewrites {
		if r.Rule == "VARIABLE" {
			unset = append(unset, r.Path+" "+strings.Fields(r.Message)[0])
		}
	}
	if got := strings.Join(unset, "; "); got != "services.a.command[0] LEAK; services.a.command[1] HOME" {
		t.Errorf("unset variables: %s", got)
	}
}

// TestSteeringVariables: what configures docker where it runs is not taken from .env; what only looks like it is,
// and the profiles that plain compose would activate: they choose among services that are judged anyway.
func TestSteeringVariables(t *testing.T) {
	plan, a, _ := accept(t, request(memoryTree{
		"compose.yaml": "services: {a: {image: 'a:${DOCKER_TAG}', command: ['${DOCKER_HOST-none}', '${COMPOSE_PROJECT_NAME}']}, b: {image: b, profiles: [p]}}",
		".env":         "DOCKER_TAG=1\nDOCKER_HOST=tcp://x\nCOMPOSE_PROFILES=p\nCOMPOSE_PROJECT_NAME=victim\n",
	}))
	if len(plan.Services) != 2 || plan.Services[0].Image != "a:1" {
		t.Errorf("%+v", plan.Services)
	}
	var dropped []string
	for _, r := range a.Rewrites {
		if r.Rule == "DOTENV" {
			dropped = append(dropped, r.Path)
		}
	}
	if got := strings.Join(dropped, " "); got != ".env.COMPOSE_PROJECT_NAME .env.DOCKER_HOST" {
		t.Errorf("dropped %s", got)
	}
}

// TestProfilesOfTheRequestWin over those that .env names, which are then said to have no effect.
func TestProfilesOfTheRequestWin(t *testing.T) {
	req := request(memoryTree{
		"compose.yaml": "services: {a: {image: a, profiles: [p]}, b: {image: b, profiles: [q]}}",
		".env":         "COMPOSE_PROFILES=p\n",
	})
	req.Profiles = []string{"q"}
	plan, a, _ := accept(t, req)
	if len(plan.Services) != 1 || plan.Services[0].Name != "b" || !slices.Contains(rewrites(a), "DOTENV") {
		t.Errorf("%+v, %v", plan.Services, a.Rewrites)
	}
}
