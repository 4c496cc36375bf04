package admission_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose/internal/admission"
	"go.yaml.in/yaml/v4"
)

// accept checks a request that must pass and returns the plan, the admission
// and the canonical file as the generic value it stands for.
func accept(t *testing.T, req admission.Request) (*admission.Plan, sandboxer.Admission, map[string]any) {
	t.Helper()
	plan, a, err := admission.Check(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if plan == nil {
		t.Fatalf("refused: %v", a.Violations)
	}
	text, err := plan.Render(placement(plan))
	if err != nil {
		t.Fatal(err)
	}
	var file map[string]any
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	return plan, a, file
}

// at follows a dotted path through the canonical file.
func at(file any, path string) any {
	for part := range strings.SplitSeq(path, "/") {
		m, ok := file.(map[string]any)
		if !ok {
			return nil
		}
		file = m[part]
	}
	return file
}

const workdir, pinDir = "/var/lib/sandboxer/sb/" + id + "/src", "/var/lib/sandboxer/sb/" + id + "/pins"

func rewrites(a sandboxer.Admission) []string {
	var rules []string
	for _, r := range a.Rewrites {
		rules = append(rules, r.Rule)
	}
	slices.Sort(rules)
	return slices.Compact(rules)
}

// honest is what real repositories have.
var honest = map[string]struct {
	tree memoryTree
	env  map[string]string
	want map[string]any // by path in the canonical file
}{
	"a build whose context is above the compose file": {
		tree: memoryTree{"e2e/compose.yaml": "services: {a: {build: {context: .., dockerfile: build/Dockerfile}}}", "build/Dockerfile": "FROM scratch"},
		want: map[string]any{"services/a/build/context": workdir, "services/a/build/dockerfile": "build/Dockerfile", "services/a/image": "sandboxer.local/" + id + "/a:g1"},
	},
	"a Dockerfile outside the context": {
		tree: memoryTree{"compose.yaml": "services: {a: {build: {context: ./app, dockerfile: ../build/Dockerfile}}}", "app/x": "", "build/Dockerfile": "FROM scratch"},
		want: map[string]any{"services/a/build/context": workdir + "/app", "services/a/build/dockerfile": "../build/Dockerfile"},
	},
	"a Dockerfile in the compose file": {
		tree: memoryTree{"compose.yaml": "services: {a: {build: {context: ., dockerfile_inline: \"FROM scratch\\nENV A=$$B\\n\"}}}"},
		want: map[string]any{"services/a/build/dockerfile": pinDir + "/0001-a.Dockerfile"},
	},
	"two services of one built image": {
		tree: memoryTree{"compose.yaml": "services: {web: {build: ., image: 'shop'}, worker: {image: 'docker.io/library/shop:latest', command: work}}", "Dockerfile": "FROM scratch"},
		want: map[string]any{"services/web/image": "sandboxer.local/" + id + "/web:g1", "services/worker/image": "sandboxer.local/" + id + "/web:g1", "services/worker/build": nil},
	},
	"env files, in order, below what the service sets": {
		tree: memoryTree{
			"compose.yaml": "services: {a: {image: alpine, env_file: [one.env, {path: two.env}, {path: gone.env, required: false}, {path: raw.env, format: raw}], environment: {C: own, N: }}}",
			"one.env":      "A=1\nB=1\nC=1\n", "two.env": "B='two $A'\nD=\"${A}2\"\nexport E=e # comment\n", "raw.env": "# no\nR='a' $B # c\n",
		},
		want: map[string]any{"services/a/environment": map[string]any{"A": "1", "B": "two $$A", "C": "own", "D": "12", "E": "e", "R": "'a' $$B # c"}},
	},
	"a name alone on a line of an env file, with a value and without": {
		tree: memoryTree{"compose.yaml": "services: {a: {image: alpine, env_file: a.env}}", "a.env": "NOBODY_GIVES\nexport NOBODY_GIVES_EITHER\nTOKEN\nA=1\n"},
		env:  map[string]string{"TOKEN": "t"},
		want: map[string]any{"services/a/environment": map[string]any{"A": "1", "TOKEN": "t"}},
	},
	"profiles that .env activates": {
		tree: memoryTree{"compose.yaml": "services: {a: {image: a}, b: {image: b, profiles: [p]}, c: {image: c, profiles: [q]}, d: {image: d, profiles: [r]}}", ".env": "STORE=p\nCOMPOSE_PROFILES=${STORE}, q\n"},
		want: map[string]any{"services/b/image": "b:latest", "services/c/image": "c:latest", "services/d": nil},
	},
	"inputs win over .env, and .env over defaults": {
		tree: memoryTree{"compose.yaml": "services: {a: {image: 'alpine:${TAG:-1}', command: ['${A}', '${B-unset}', '${C:?needed}'], environment: [PASSED, GONE]}}", ".env": "TAG=2\nA=file\nPASSED=p\nDOCKER_TAG=x\n"},
		env:  map[string]string{"A": "input", "C": "c"},
		want: map[string]any{"services/a/image": "alpine:2", "services/a/command": []any{"input", "unset", "c"}, "services/a/environment": map[string]any{"PASSED": "p"}},
	},
	"locked memory": {
		tree: memoryTree{"compose.yaml": "services: {es: {image: x, ulimits: {memlock: {soft: -1, hard: -1}, stack: 67108864}, cap_add: [IPC_LOCK, SYS_NICE]}}"},
		want: map[string]any{"services/es/ulimits/memlock": nil, "services/es/ulimits/stack": map[string]any{"soft": 67108864, "hard": 67108864}, "services/es/cap_add": []any{"IPC_LOCK"}},
	},
	"an overlay network, and ports on an IPv6 address without brackets": {
		tree: memoryTree{"compose.yaml": "services: {a: {image: x, networks: [n], ports: ['::1:25:2525']}}\nnetworks: {n: {driver: overlay, attachable: true, driver_opts: {encrypted: ''}}}"},
		want: map[string]any{"networks/n/driver": "bridge", "services/a/ports": nil},
	},
	"extends a file that extends another": {
		tree: memoryTree{
			"compose.yaml":         "services: {a: {extends: {file: common/base.yml, service: web}, command: run}}",
			"common/base.yml":      "services: {web: {extends: {file: deep/root.yml, service: root}, volumes: ['./conf:/conf:ro'], build: .}, unused: {extends: {file: gone.yml, service: x}}}",
			"common/deep/root.yml": "services: {root: {env_file: root.env, working_dir: /srv}}",
			"common/deep/root.env": "FROM_ROOT=1", "common/conf/x": "", "common/Dockerfile": "FROM scratch",
		},
		want: map[string]any{
			"services/a/environment": map[string]any{"FROM_ROOT": "1"}, "services/a/working_dir": "/srv", "services/a/command": []any{"run"},
			"services/a/build/context": workdir + "/common",
			"services/a/volumes":       []any{map[string]any{"type": "bind", "source": workdir + "/common/conf", "target": "/conf", "read_only": true, "bind": map[string]any{"create_host_path": false}}},
		},
	},
	"includes with their own directory and variables": {
		tree: memoryTree{
			"compose.yaml":         "include: [infra/db.yml, {path: [other/a.yml, other/b.yml], project_directory: proj, env_file: [vars.env]}]\nservices: {a: {image: alpine, depends_on: [db]}}",
			"infra/db.yml":         "include: [more/cache.yml]\nservices: {db: {image: 'postgres:${V}', volumes: ['./init:/init:ro', 'data:/d']}}\nvolumes: {data: {}}",
			"infra/.env":           "V=16\nQ=\"it's \\\\ \\\"quoted\\\" $$x\"\n",
			"infra/init/x":         "",
			"infra/more/cache.yml": "services: {cache: {image: 'redis:${W:-7}', environment: {Q: '${Q}', V: '${V}'}}}",
			"other/a.yml":          "services: {o: {image: alpine, volumes: ['./d:/d']}}", "other/b.yml": "services: {o: {command: '${CMD}'}}",
			"vars.env": "CMD=go\n", "proj/d/x": "",
		},
		want: map[string]any{
			"services/db/image": "postgres:16", "services/cache/image": "redis:7",
			"services/cache/environment": map[string]any{"Q": `it's \ "quoted" $$x`, "V": "16"},
			"services/o/command":         []any{"go"},
			"services/o/volumes":         []any{map[string]any{"type": "bind", "source": workdir + "/proj/d", "target": "/d", "bind": map[string]any{"create_host_path": false}}},
		},
	},
	"anchors below x- keys, the obsolete version, null volumes": {
		tree: memoryTree{"compose.yaml": "version: '3'\nx-a: &a {image: alpine, environment: &e {A: 1}}\nservices:\n  a: {<<: *a, environment: {<<: *e, B: yes}}\nvolumes: {unused: }\n"},
		want: map[string]any{"services/a/environment": map[string]any{"A": "1", "B": "yes"}, "volumes": nil},
	},
	"secrets and configs of every kind": {
		tree: memoryTree{
			"compose.yaml": "services: {a: {image: alpine, secrets: [s, {source: e, target: /run/e}], configs: [c, {source: f, target: /etc/f}]}}\n" +
				"secrets: {s: {file: ./s.txt}, e: {environment: TOKEN}}\nconfigs: {c: {content: 'a ${TOKEN} $$b'}, f: {file: dir/f.conf}}",
			"s.txt": "secret", "dir/f.conf": "f",
		},
		env: map[string]string{"TOKEN": "t"},
		want: map[string]any{
			"secrets/e/file": pinDir + "/0001-e", "secrets/s/file": pinDir + "/0002-s.txt", "configs/c/file": pinDir + "/0003-c", "configs/f/file": pinDir + "/0004-f.conf",
			"services/a/configs": []any{map[string]any{"source": "c"}, map[string]any{"source": "f", "target": "/etc/f"}},
		},
	},
	"a directory as a config and as a secret": {
		tree: memoryTree{
			"compose.yaml": "services: {a: {image: x, configs: [{source: c, target: /etc/conf.d}], secrets: [s]}}\nconfigs: {c: {file: ./conf.d}}\nsecrets: {s: {file: keys}}",
			"conf.d/a":     "a", "keys/k": "k",
		},
		want: map[string]any{"configs/c/file": pinDir + "/0002-conf.d", "secrets/s/file": pinDir + "/0001-keys"},
	},
	"IPv6 turned off, a label turned off, a part of the memory": {
		tree: memoryTree{"compose.yaml": "services: {a: {image: x, mem_limit: 1000m, sysctls: [net.ipv6.conf.all.disable_ipv6=1, net.ipv6.conf.default.disable_ipv6=1], security_opt: ['label:disable', label=disable], tmpfs: ['/run:size=50%,exec']}}"},
		want: map[string]any{
			"services/a/sysctls": map[string]any{"net.ipv6.conf.all.disable_ipv6": "1", "net.ipv6.conf.default.disable_ipv6": "1"}, "services/a/security_opt": []any{"no-new-privileges:true"},
			"services/a/tmpfs": []any{"/run:exec,nodev,nosuid,size=524288000"},
		},
	},
	"many ports, one by one and in ranges": {
		tree: memoryTree{"compose.yaml": "services: {a: {image: x, ports: [" + numbered(40, "'%d01:8000', ") + "'9000-9030:9000-9030', '9031-9061:9031-9061/udp']}}"},
		want: map[string]any{"services/a/ports": nil},
	},
	"paths that begin with PWD": {
		tree: memoryTree{
			"compose.yaml": "include: ['${PWD}/db/one.yml']\nx-v: &v '$PWD/shared:/shared:ro'\nx-s: &s {volumes: [*v, '${PWD}:/all:ro', '${PWD:-.}/app:/app:ro', '${DATA:-${PWD}/data}:/data', {type: bind, source: $PWD/long, target: /long}]}\n" +
				"services:\n  a: {<<: *s, image: x, env_file: '${PWD}/a.env', configs: [c], secrets: [s]}\n" +
				"  b: {build: {context: '${PWD}/app', additional_contexts: ['more=$PWD/more']}}\n" +
				"  c: {build: $PWD/app}\n  d: {extends: {file: $PWD/common/base.yml, service: d}}\n" +
				"  e: {image: x, volumes: ['bound:/bound:ro'], env_file: [{path: $PWD/a.env}]}\n" +
				"configs: {c: {file: '${PWD?}/app/c.conf'}}\nsecrets: {s: {file: $PWD/s.txt}}\nvolumes: {bound: {driver_opts: {type: none, o: bind, device: '${PWD}/data'}}}",
			"db/one.yml": "services: {db: {image: x, volumes: ['$PWD/init:/init:ro', './own:/own:ro']}}", "db/own/x": "", "init/x": "",
			"common/base.yml": "services: {d: {image: x, volumes: ['${PWD}/data:/d:ro', './own:/own:ro']}}", "common/own/x": "",
			"a.env": "A=1\n", "app/Dockerfile": "FROM scratch", "app/c.conf": "c", "s.txt": "s", "shared/x": "", "data/x": "", "long/x": "", "more/x": "",
		},
		want: map[string]any{
			"services/a/environment": map[string]any{"A": "1"}, "services/b/build/context": workdir + "/app", "services/b/build/dockerfile": "Dockerfile",
			"services/b/build/additional_contexts": map[string]any{"more": workdir + "/more"}, "services/c/build/context": workdir + "/app",
		},
	},
	"PWD as an input": {
		tree: memoryTree{"compose.yaml": "services: {a: {image: x, volumes: ['${PWD}/x:/x:ro']}}", "sub/x/f": ""},
		env:  map[string]string{"PWD": "./sub"},
		want: map[string]any{"services/a/volumes": []any{map[string]any{"type": "bind", "source": workdir + "/sub/x", "target": "/x", "read_only": true, "bind": map[string]any{"create_host_path": false}}}},
	},
	"limits in both spellings, and none": {
		tree: memoryTree{"compose.yaml": "services:\n  a: {image: x, cpus: 0.1, mem_limit: 64m, pids_limit: 10}\n  b: {image: x, deploy: {replicas: 2, resources: {limits: {cpus: '1.5', memory: 8G, pids: -1}, reservations: {memory: 32m}}, restart_policy: {condition: on-failure, max_attempts: 3}}}\n  c: {image: x}\n"},
		want: map[string]any{
			"services/a/cpus": 0.1, "services/a/mem_limit": 64 << 20, "services/a/memswap_limit": 64 << 20, "services/a/pids_limit": 10,
			"services/b/cpus": 1.5, "services/b/mem_limit": 2 << 30, "services/b/pids_limit": 1024, "services/b/mem_reservation": 32 << 20, "services/b/scale": 2, "services/b/restart": "on-failure:3",
			"services/c/cpus": 2, "services/c/mem_limit": 2 << 30, "services/c/restart": nil,
		},
	},
	"several networks, aliases and a container name": {
		tree: memoryTree{"compose.yaml": "services: {a: {image: x, container_name: the-a, networks: {front: {aliases: [www], priority: 5}, back: }}, b: {image: x, network_mode: 'service:a'}, c: {image: x, network_mode: none}, d: {image: x, network_mode: bridge}}\nnetworks: {front: {driver: bridge, driver_opts: {com.docker.network.driver.mtu: 1400}}, back: {internal: true}}"},
		want: map[string]any{
			"services/a/networks":     map[string]any{"front": map[string]any{"aliases": []any{"the-a", "www"}, "priority": 5}, "back": map[string]any{"aliases": []any{"the-a"}}},
			"services/b/network_mode": "service:a", "services/b/dns": nil, "services/c/dns": nil, "services/d/networks": map[string]any{"default": map[string]any{}},
			"networks/front/internal": true, "networks/back/internal": true, "networks/front/driver_opts": map[string]any{"com.docker.network.driver.mtu": "1400", "com.docker.network.bridge.inhibit_ipv4": "true"},
		},
	},
	"a clock of the host and a directory as a volume": {
		tree: memoryTree{"compose.yaml": "services: {a: {image: x, volumes: ['/etc/localtime:/etc/localtime:ro', 'dd:/d'], working_dir: /d}}\nvolumes: {dd: {driver: local, driver_opts: {type: none, o: bind, device: ./data}}}", "data/x": ""},
		want: map[string]any{
			"services/a/volumes": []any{map[string]any{"type": "bind", "source": workdir + "/data", "target": "/d", "bind": map[string]any{"create_host_path": false}}}, "volumes": nil,
		},
	},
	"shared memory of the host": {
		tree: memoryTree{"compose.yaml": "services: {a: {image: x, mem_limit: 512m, volumes: ['/dev/shm:/dev/shm']}, b: {image: x, shm_size: 128m, volumes: [{type: bind, source: /dev/shm, target: /dev/shm/}]}}"},
		want: map[string]any{"services/a/volumes": nil, "services/a/shm_size": 512 << 20, "services/b/volumes": nil, "services/b/shm_size": 128 << 20},
	},
	"a later file that resets": {
		tree: memoryTree{"compose.yaml": "include: [{path: [a.yml, b.yml]}]\n", "a.yml": "services: {a: {image: x, ports: ['80:80'], environment: {A: 1, B: 2}, command: [run]}}", "b.yml": "services: {a: {ports: !reset [], environment: !override {C: 3}, command: !reset null}}"},
		want: map[string]any{"services/a/environment": map[string]any{"C": "3"}, "services/a/command": nil},
	},
	"an inactive profile that asks for anything": {
		tree: memoryTree{"compose.yaml": "services: {a: {image: x, depends_on: {debug: {condition: service_started, required: false}}}, debug: {image: x, profiles: [debug], privileged: true, pid: host, volumes: ['/:/h', 'v:/v'], networks: [n], provider: {type: x}}}\nvolumes: {v: {external: true}}\nnetworks: {n: {external: true}}"},
		want: map[string]any{"services/debug": nil, "services/a/depends_on": nil, "volumes": nil},
	},
	"empty lists and explicit nothings": {
		tree: memoryTree{"compose.yaml": "services: {a: {image: x, privileged: false, devices: [], cap_add: [], security_opt: [], entrypoint: [], command: '', init: false, use_api_socket: false, oom_kill_disable: no}}"},
		want: map[string]any{"services/a/entrypoint": []any{}, "services/a/command": []any{}, "services/a/init": false},
	},
}

// TestContentThatIsRun: a script in the compose file keeps the bit that lets it run.
func TestContentThatIsRun(t *testing.T) {
	plan, a, _ := accept(t, request(memoryTree{
		"compose.yaml": "services:\n  a: {image: x, configs: [{source: run, target: /run.sh, mode: 0755}, {source: conf, mode: 0440, uid: '1000', gid: '0'}]}\n" +
			"configs: {run: {content: '#!/bin/sh'}, conf: {content: c}}",
	}))
	want := []admission.Pin{{Name: "0001-conf", Data: []byte("c"), Mode: 0o444}, {Name: "0002-run", Data: []byte("#!/bin/sh"), Mode: 0o555}}
	if diff := cmp.Diff(want, plan.Pins); diff != "" {
		t.Error(diff)
	}
	var told []string
	for _, r := range a.Rewrites {
		told = append(told, r.Rule+" "+r.Path)
	}
	if diff := cmp.Diff([]string{"FILE-ACCESS services.a.configs[0].mode", "FILE-ACCESS services.a.configs[1].mode", "FILE-ACCESS services.a.configs[1].uid"}, told); diff != "" {
		t.Error(diff)
	}
}

// TestUnsetVariablesAreTold, those of env files as well, and also where the file cannot be loaded without them.
func TestUnsetVariablesAreTold(t *testing.T) {
	_, a, _ := accept(t, request(memoryTree{"compose.yaml": "services: {a: {image: x, env_file: [a.env, {path: raw.env, format: raw}]}}", "raw.env": "RAW\n",
		"a.env": "A=$GONE ${THERE:-x}\nALONE\nKEY=\"begin\nsecret\nend\"\n"}))
	var told []string
	for _, r := range a.Rewrites {
		told = append(told, r.Rule+" "+r.Path+" "+strings.Fields(r.Message)[0])
	}
	if diff := cmp.Diff([]string{"ENV-NULL services.a.env_file[0] ALONE,", "VARIABLE services.a.env_file[0] GONE,", "ENV-NULL services.a.env_file[1] RAW,"}, told); diff != "" {
		t.Error(diff)
	}

	_, a, err := admission.Check(t.Context(), request(memoryTree{"compose.yaml": "services:\n  a:\n    image: x\n    volumes:\n      - ${DATA}:/data\n"}))
	if err != nil || len(a.Violations) != 1 {
		t.Fatal(a.Violations, err)
	}
	if v := a.Violations[0]; v.Path != "services.a.volumes[0]" || v.Line != 5 || !strings.Contains(v.Message, "the variable DATA is not set") || !strings.Contains(v.Hint, "declare DATA") {
		t.Errorf("%+v", v)
	}
}

// TestHonestFiles: they run as they are, and the host's compose is told what
// plain compose would have understood.
func TestHonestFiles(t *testing.T) {
	for name, test := range honest {
		t.Run(name, func(t *testing.T) {
			req := request(test.tree)
			req.Env = test.env
			_, a, file := accept(t, req)
			for _, path := range slices.Sorted(maps.Keys(test.want)) {
				if diff := cmp.Diff(test.want[path], at(file, path)); diff != "" {
					t.Errorf("%s: %s", path, diff)
				}
			}
			if t.Failed() {
				t.Log(rewrites(a))
			}
		})
	}
}

func TestPlanSaysWhatRuns(t *testing.T) {
	plan, _, _ := accept(t, request(memoryTree{"compose.yaml": `
services:
  web:
    build: .
    ports: ["8080:80", {target: 53, protocol: udp, name: dns}, "3000"]
    healthcheck: {test: ["CMD", "true"]}
    depends_on: {migrate: {condition: service_completed_successfully}, db: {condition: service_healthy}}
    deploy: {replicas: 3}
    networks: [default, back]
  migrate: {image: "tool:1", network_mode: none}
  db: {image: postgres:16, healthcheck: {disable: true}, networks: [back], volumes: ["data:/d"]}
networks: {back: {internal: true}}
volumes: {data: }
`, "Dockerfile": "FROM scratch"}))
	want := &admission.Plan{
		Services: []admission.Service{
			{Name: "db", Image: "postgres:16", Replicas: 1, Networks: []string{"back"}},
			{Name: "migrate", Image: "tool:1", Replicas: 1, OneShot: true, NetworkMode: "none"},
			{Name: "web", Built: true, Image: "sandboxer.local/" + id + "/web:g1", Replicas: 3, HasHealthcheck: true, Networks: []string{"back", "default"}, Ports: []admission.Port{
				{Target: 80, Protocol: "tcp", Published: "8080"}, {Target: 53, Protocol: "udp", Name: "dns"}, {Target: 3000, Protocol: "tcp"},
			}},
		},
		Networks: []admission.Network{{Key: "back", Internal: true, Containers: 4}, {Key: "default", Containers: 3}},
		Volumes:  []string{"data"}, Images: []string{"postgres:16", "tool:1"}, Build: true,
	}
	got := *plan
	if diff := cmp.Diff(want, &got, cmp.FilterPath(func(p cmp.Path) bool { return !exported(p) }, cmp.Ignore())); diff != "" {
		t.Error(diff)
	}
}

func exported(p cmp.Path) bool {
	f, ok := p.Last().(cmp.StructField)
	return !ok || f.Name()[0] >= 'A' && f.Name()[0] <= 'Z'
}

// TestNestedBinds: whatever lies below a directory that a container may
// write is mounted from elsewhere, whoever mounts it and in whatever order.
func TestNestedBinds(t *testing.T) {
	tree := memoryTree{"compose.yaml": `
services:
  a: {image: x, volumes: [".:/app"]}
  b: {image: x, volumes: ["./conf:/conf", "./conf/deep:/deep:ro", "./new:/new"]}
  c: {image: x, volumes: ["./conf:/c", "./run.sh:/run.sh:ro"]}
`, "conf/deep/x": "", "run.sh": "#!/bin/sh"}
	plan, a, file := accept(t, request(tree))
	want := []admission.Pin{
		{Name: "0001-conf", Source: "conf"}, {Name: "0002-deep", Source: "conf/deep"}, {Name: "0003-new", Dir: true, Mode: 0o755}, {Name: "0004-run.sh", Source: "run.sh"},
	}
	if diff := cmp.Diff(want, plan.Pins); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"new"}, plan.Mkdirs); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"BIND-NESTED"}, rewrites(a)); diff != "" {
		t.Error(diff)
	}
	var sources []string
	for _, service := range []string{"a", "b", "c"} {
		for _, v := range at(file, "services/"+service+"/volumes").([]any) {
			sources = append(sources, v.(map[string]any)["source"].(string))
		}
	}
	if diff := cmp.Diff([]string{workdir, pinDir + "/0001-conf", pinDir + "/0002-deep", pinDir + "/0003-new", pinDir + "/0001-conf", pinDir + "/0004-run.sh"}, sources); diff != "" {
		t.Error(diff)
	}

	tree["compose.yaml"] = strings.Replace(tree["compose.yaml"], ".:/app", ".:/app:ro", 1)
	plan, _, _ = accept(t, request(tree))
	if diff := cmp.Diff([]admission.Pin{{Name: "0001-deep", Source: "conf/deep"}}, plan.Pins); diff != "" {
		t.Errorf("below a read-only bind: %s", diff)
	}
}

func TestEgressAllow(t *testing.T) {
	tree := memoryTree{"compose.yaml": "services: {a: {image: x, dns: [9.9.9.9], networks: [n, m], extra_hosts: ['h:10.0.0.1', 'six=::1']}}\nnetworks: {n: {}, m: {internal: true}}"}
	req := request(tree)
	req.Policy.Egress = sandboxer.EgressAllow
	_, a, file := accept(t, req)
	if len(a.Rewrites) > 0 {
		t.Error(a.Rewrites)
	}
	for path, want := range map[string]any{
		"networks/n/internal": nil, "networks/m/internal": true, "networks/n/driver_opts": nil,
		"services/a/dns": []any{"9.9.9.9"}, "services/a/extra_hosts": []any{"h:10.0.0.1", "six=::1"},
	} {
		if diff := cmp.Diff(want, at(file, path)); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
}

// TestProfileLoosens: a profile grants by naming the rule, and nothing else.
func TestProfileLoosens(t *testing.T) {
	tests := map[string]struct {
		text, rule string
		path       string // in the canonical file
		want       any
	}{
		"capability":       {"services: {a: {image: x, cap_add: [NET_ADMIN, cap_sys_ptrace]}}", "CAP-ADD", "services/a/cap_add", []any{"NET_ADMIN", "SYS_PTRACE"}},
		"host gateway":     {"services: {a: {image: x, extra_hosts: ['h:host-gateway']}}", "EXTRA-HOSTS", "services/a/extra_hosts", []any{"h:host-gateway"}},
		"port range":       {"services: {a: {image: x, ports: ['4510-4559:4510-4559']}}", "PORT-RANGE", "services/a/ports", nil},
		"device":           {"services: {a: {image: x, devices: ['/dev/net/tun', '/dev/fuse:/dev/fuse:rw']}}", "DEVICES", "services/a/devices", []any{"/dev/net/tun:/dev/net/tun:rwm", "/dev/fuse:/dev/fuse:rw"}},
		"setting":          {"services: {a: {image: x, sysctls: [net.ipv4.ip_forward=1]}}", "SYSCTL", "services/a/sysctls", map[string]any{"net.ipv4.ip_forward": "1"}},
		"limit":            {"services: {a: {image: x, ulimits: {fsize: 10, sigpending: {soft: 1, hard: 2}}}}", "ULIMITS", "services/a/ulimits/sigpending", map[string]any{"soft": 1, "hard": 2}},
		"log driver":       {"services: {a: {image: x, logging: {driver: loki, options: {loki-url: 'http://l'}}}}", "LOGGING", "services/a/logging/driver", "json-file"},
		"external network": {"services: {a: {image: x, networks: [n]}}\nnetworks: {n: {external: true, name: proxy}}", "NET-EXTERNAL", "networks/n/name", "sbx-" + id + "_n"},
		"external volume":  {"services: {a: {image: x, volumes: ['vv:/v']}}\nvolumes: {vv: {external: {name: data}}}", "VOL-EXTERNAL", "volumes/vv", map[string]any{"name": "sbx-" + id + "_vv", "driver": "local", "labels": map[string]any{"dev.sandboxer.id": id, "dev.sandboxer.actor": `a "quoted" $$name`}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			req := request(memoryTree{"compose.yaml": test.text})
			if _, a, err := admission.Check(t.Context(), req); err != nil || !has(a, test.rule) {
				t.Errorf("not refused by %s without a grant: %v %v", test.rule, a.Violations, err)
			}
			req.Policy.Allow = []string{test.rule, "CAP-ADD"}
			_, a, file := accept(t, req)
			if diff := cmp.Diff(test.want, at(file, test.path)); diff != "" {
				t.Errorf("%s: %s", test.path, diff)
			}
			if len(a.Loosened) == 0 {
				t.Fatal("what was loosened is not said")
			}
			for _, l := range a.Loosened {
				if l.Rule != test.rule || l.Path == "" || l.File != "compose.yaml" || l.Line == 0 || l.Message == "" || l.Hint != "" {
					t.Errorf("%+v", l)
				}
			}
		})
	}
	lock := request(memoryTree{"compose.yaml": "services: {a: {image: x, ulimits: {memlock: -1}, cap_add: [SYS_NICE]}}"})
	lock.Policy.Allow = []string{"ULIMITS", "CAP-ADD"} // what is taken out of a file without them is kept
	_, a, file := accept(t, lock)
	if diff := cmp.Diff([]any{map[string]any{"soft": -1, "hard": -1}, []any{"SYS_NICE"}}, []any{at(file, "services/a/ulimits/memlock"), at(file, "services/a/cap_add")}); diff != "" || len(a.Loosened) != 2 {
		t.Errorf("%v %s", a.Loosened, diff)
	}
	req := request(memoryTree{"compose.yaml": "services: {a: {image: x}}"})
	req.Policy.Allow = []string{"CAP-ADD"}
	if _, a, _ := accept(t, req); a.Loosened != nil {
		t.Errorf("nothing was made use of, and yet loosened: %v", a.Loosened)
	}
	for rule, texts := range map[string][]string{
		"CAP-ADD":      {"cap_add: [SYS_ADMIN]", "cap_add: [ALL]"},
		"DEVICES":      {"devices: [/dev/sda]", "devices: ['/dev/kvm:/dev/sda']", "devices: ['/dev/net/../sda:/dev/kvm']", "devices: ['vendor.com/class=gpu']"},
		"SYSCTL":       {"sysctls: {net.ipv6.conf.all.disable_ipv6: 0}", "sysctls: {kernel.core_pattern: x}", "sysctls: {'net.ipv4/../kernel': x}"},
		"ULIMITS":      {"ulimits: {rtprio: 99}", "ulimits: {nice: 40}"},
		"NET-EXTERNAL": {"networks: [n]}}\nnetworks: {n: {external: true, name: host}, x: {"},
	} {
		for _, text := range texts {
			req := request(memoryTree{"compose.yaml": "services: {a: {image: x, " + text + "}}"})
			req.Policy.Allow = []string{rule}
			if _, a, err := admission.Check(t.Context(), req); err != nil || !has(a, rule) {
				t.Errorf("%s was granted: %v %v", text, a.Violations, err)
			}
		}
	}
	for _, id := range []string{"PRIVILEGED", "NO-SUCH", "PORTS"} {
		req.Policy.Allow = []string{id}
		if _, _, err := admission.Check(t.Context(), req); !errors.Is(err, sandboxer.ErrInvalid) {
			t.Errorf("allow: [%s]: %v", id, err)
		}
	}
}

// TestStandIn: what a stock host does not have, compose creates; what it has
// is never mounted, nor anything in its place.
func TestStandIn(t *testing.T) {
	_, a, file := accept(t, request(memoryTree{"compose.yaml": "services: {a: {image: x, volumes: ['/mnt/media/:/m:ro']}, b: {image: x, volumes: ['/mnt/media:/n', '/data:/d', '/home/me/app:/h', '/var/lib/app/data:/v']}}"}))
	standIn := func(pin, target string, more ...any) map[string]any {
		m := map[string]any{"type": "bind", "source": pinDir + pin, "target": target, "bind": map[string]any{"create_host_path": false}}
		if len(more) > 0 {
			m["read_only"] = true
		}
		return m
	}
	for service, want := range map[string][]any{
		"a": {standIn("/0001-media", "/m", "ro")}, "b": {standIn("/0001-media", "/n"), standIn("/0002-data", "/d"), standIn("/0003-app", "/h"), standIn("/0004-data", "/v")},
	} {
		if diff := cmp.Diff(want, at(file, "services/"+service+"/volumes")); diff != "" {
			t.Errorf("%s: %s", service, diff)
		}
	}
	if !slices.ContainsFunc(a.Rewrites, func(r sandboxer.Rewrite) bool {
		return r.Rule == "BIND-DATA" && strings.Contains(r.Message, "/mnt/media") && strings.Contains(r.Message, "an empty directory")
	}) {
		t.Errorf("the plan does not say so: %v", a.Rewrites)
	}
	for _, source := range []string{"/", "/etc", "/mnt/../etc", "/srv/docker.sock", "~/x", "../x", "c:/x", "//etc", "/var/lib/docker", "/var/lib/docker/volumes", "/var/lib", "/var/log/x", "/home/me", "/home/me/.ssh", "/run", "/tmp/x"} {
		req := request(memoryTree{"compose.yaml": "services: {a: {image: x, volumes: [{type: bind, source: '" + source + "', target: /h, bind: {create_host_path: true}}]}}"})
		if _, a, err := admission.Check(t.Context(), req); err != nil || !has(a, "BIND-OUTSIDE") {
			t.Errorf("%s: %v %v", source, a, err)
		}
	}
	for _, text := range []string{
		"services: {a: {image: x, volumes: ['$GONE/conf:/conf']}}",
		"services: {a: {image: x, volumes: [{type: bind, source: '${GONE}/conf', target: /conf, bind: {create_host_path: true}}]}}",
		"x-a: &a {volumes: ['${GONE}/conf/:/conf']}\nservices: {b: {image: x, volumes: ['./a:/a', './b:/b']}, a: {extends: b, <<: *a}}",
	} {
		_, a, err := admission.Check(t.Context(), request(memoryTree{"compose.yaml": text}))
		if err != nil || len(a.Violations) != 1 || strings.Count(a.Violations[0].Message, "the variable GONE is not set") != 1 || !strings.Contains(a.Violations[0].Hint, "declare GONE") {
			t.Errorf("%s: %v %v", text, a.Violations, err)
		}
	}
	req := request(memoryTree{"compose.yaml": "services: {a: {image: x, volumes: [{type: bind, source: /data, target: /h, bind: {create_host_path: false}}]}}"})
	if _, a, err := admission.Check(t.Context(), req); err != nil || !has(a, "BIND-OUTSIDE") {
		t.Errorf("what the host must have: %v %v", a, err)
	}
}

// TestSharesWithItsOwn: a container that is named is a service of the file, if
// it is in the file; and nothing may wait for itself.
func TestSharesWithItsOwn(t *testing.T) {
	_, _, file := accept(t, request(memoryTree{"compose.yaml": "services: {vpn: {image: x, container_name: gluetun}, a: {image: x, network_mode: 'container:gluetun', pid: 'container:gluetun', volumes_from: ['container:gluetun:ro']}}"}))
	for path, want := range map[string]any{
		"services/a/network_mode": "service:vpn", "services/a/pid": "service:vpn", "services/a/volumes_from": []any{"vpn:ro"},
		"services/a/depends_on/vpn/condition": "service_started", "services/vpn/container_name": nil,
	} {
		if diff := cmp.Diff(want, at(file, path)); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
	for name, text := range map[string]string{
		"of another sandbox": "services: {a: {image: x, network_mode: 'container:victim'}}",
		"its own":            "services: {a: {image: x, container_name: me, network_mode: 'container:me'}}",
		"one another":        "services: {a: {image: x, container_name: a1, network_mode: 'container:b1'}, b: {image: x, container_name: b1, network_mode: 'container:a1'}}",
		"one that waits":     "services: {a: {image: x, container_name: a1, network_mode: 'container:b1'}, b: {image: x, container_name: b1, depends_on: [c]}, c: {image: x, depends_on: [a]}}",
	} {
		if _, a, err := admission.Check(t.Context(), request(memoryTree{"compose.yaml": text})); err != nil || !has(a, "NETWORK-MODE") {
			t.Errorf("%s: %v %v", name, a.Violations, err)
		}
	}
}

func TestFindsTheFile(t *testing.T) {
	text := "services: {a: {image: x}}"
	tests := map[string]struct {
		tree memoryTree
		file string
		want string // directory that a bind of "." shows
		err  error
	}{
		"compose.yaml first":     {memoryTree{"docker-compose.yml": text, "compose.yml": text, "compose.yaml": "services: {a: {image: x, volumes: ['.:/r']}}"}, "", workdir, nil},
		"compose's own order":    {memoryTree{"docker-compose.yaml": text, "docker-compose.yml": "services: {a: {image: x, volumes: ['.:/r']}}"}, "", workdir, nil},
		"then e2e":               {memoryTree{"e2e/docker-compose.yml": "services: {a: {image: x, volumes: ['.:/r']}}", "other/compose.yaml": text}, "", workdir + "/e2e", nil},
		"the one that was named": {memoryTree{"compose.yaml": text, "x/y.yml": "services: {a: {image: x, volumes: ['.:/r']}}"}, "./x/y.yml", workdir + "/x", nil},
		"none":                   {memoryTree{"README": ""}, "", "", sandboxer.ErrNotFound},
		"not there":              {memoryTree{"compose.yaml": text}, "gone.yml", "", sandboxer.ErrNotFound},
		"outside":                {memoryTree{"compose.yaml": text}, "../compose.yaml", "", sandboxer.ErrInvalid},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			req := request(test.tree)
			req.File = test.file
			if test.err != nil {
				_, _, err := admission.Check(t.Context(), req)
				if !errors.Is(err, test.err) {
					t.Fatalf("%v, want %v", err, test.err)
				}
				var none *admission.NoFileError
				if errors.As(err, &none) && test.file == "" && (len(none.Looked) != 8 || !strings.Contains(err.Error(), "e2e/docker-compose.yml")) {
					t.Errorf("does not say what was looked for: %v", err)
				}
				return
			}
			_, _, file := accept(t, req)
			got := at(file, "services/a/volumes").([]any)[0].(map[string]any)["source"]
			if got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
