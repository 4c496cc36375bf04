package schemas_test

import (
	"strings"
	"testing"
)

const (
	smallProfile   = "id: profile.small\nisolation: container\nttl: 30m\nmax_ttl: 1h\ninputs:\n  repo: {required: true}\n"
	smallExtension = "id: ext.small\nversion: 1.0.0\ncapabilities: [dial]\nisolation: [container]\npricing: self-hosted\n"
	smallRequest   = "profile: profile.compose-e2e\ninputs: {repo: .}\nconsumer: {project: demo, actor_type: agt, actor: me}\n"
	smallHosts     = "hosts:\n- address: ssh://builder\n"
	smallHub       = "url: https://hub.example.net\n"
)

// An editor must not complain about what the library accepts.
func TestGoodInputs(t *testing.T) {
	tests := []struct{ name, schema, text string }{
		{"least profile", "profile", smallProfile},
		{"durations of all kinds", "profile", smallProfile + "bounds: {provision: 1h30m, ready: 1.5h, teardown: 90s}\n"},
		{"memory as text", "profile", smallProfile + "resources: {memory: 512Mi, disk: 2Gi}\n"},
		{"memory as a number", "profile", smallProfile + "resources: {memory: 536870912, cpus: 0.5}\n"},
		{"a config", "profile", smallProfile + "config: {file: compose.yaml, profiles: [a]}\n"},
		{"a config with nothing in it", "profile", smallProfile + "config:\n"},
		{"ports", "profile", smallProfile + "expose: [{service: api, port: 8080}]\n"},
		{"labels", "profile", smallProfile + "labels: {team.example/owner: 'Jo & co'}\n"},
		{"least extension", "extension", smallExtension},
		{"preview", "extension", strings.Replace(smallExtension, "1.0.0", "1.0.0-rc.1", 1)},
		{"least request", "create-request", smallRequest},
		{"full request", "create-request", smallRequest + "labels: {a: b}\nttl: 10m\npolicy: explicit\nhost: one\nkeep_failed: true\nidempotency_key: k\n"},
		{"least hosts", "hosts", smallHosts},
		{"a profile's secrets", "secrets", "secrets:\n  a: {env: A}\n  b: {file: /b, shared: true}\n  c: {command: [pass, c], pass_env: [HOME], timeout: 5s}\n"},
		{"least hub", "hub", smallHub},
		{"a hub that wants progress", "hub", smallHub + "shape: progress\nfields: {topic_slug: sandboxes}\ntoken_env: HUB_TOKEN\ntimeout: 5s\ngive_up: -1s\n"},
		{"this machine", "hosts", "hosts: [{address: 'local:', cache_ttl: 0s}]\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := load(t, test.schema, []byte(test.text)); err != nil {
				t.Errorf("the library refuses it: %v", err)
			}
			if err := compile(t, test.schema, "").Validate(fromYAML(t, []byte(test.text))); err != nil {
				t.Errorf("the schema refuses it: %v", err)
			}
		})
	}
}

// What the library refuses by itself, an editor shows while it is written.
func TestBadInputs(t *testing.T) {
	replace := func(text, old, by string) string {
		if !strings.Contains(text, old) {
			t.Fatalf("%q is not in %q", old, text)
		}
		return strings.Replace(text, old, by, 1)
	}
	tests := []struct{ name, schema, text, want string }{
		{"unknown key", "profile", smallProfile + "timeout: 3m\n", "additional properties 'timeout' not allowed"},
		{"unknown key below", "profile", smallProfile + "network: {egres: deny}\n", "at '/network': additional properties 'egres' not allowed"},
		{"unknown key of an input", "profile", replace(smallProfile, "required: true", "require: true"), "at '/inputs/repo': additional properties 'require' not allowed"},
		{"bad duration", "profile", replace(smallProfile, "30m", "1 day"), "at '/ttl': '1 day' does not match pattern"},
		{"a number for a duration", "profile", replace(smallProfile, "30m", "1800"), "at '/ttl': got number, want string"},
		{"bad memory", "profile", smallProfile + "resources: {memory: 512MB}\n", "'512MB' does not match pattern"},
		{"negative memory", "profile", smallProfile + "resources: {memory: -1}\n", "minimum: got -1, want 0"},
		{"negative processors", "profile", smallProfile + "resources: {cpus: -1}\n", "at '/resources/cpus': minimum: got -1, want 0"},
		{"wrong isolation", "profile", replace(smallProfile, "container", "chroot"), "at '/isolation': value must be one of 'container', 'gvisor', 'vm'"},
		{"wrong egress", "profile", smallProfile + "network: {egress: none}\n", "at '/network/egress': value must be one of 'deny', 'allowlist', 'allow'"},
		{"wrong workspace", "profile", smallProfile + "workspace: {mode: clone}\n", "at '/workspace/mode': value must be 'upload'"},
		{"wrong scope", "profile", smallProfile + "scope: forever\n", "at '/scope': value must be one of 'run', 'session', 'project'"},
		{"wrong policy", "profile", smallProfile + "placement: {policy: random}\n", "at '/placement/policy': value must be one of 'explicit', 'prefer-self-hosted', 'lowest-cost'"},
		{"no id", "profile", replace(smallProfile, "id: profile.small\n", ""), "missing property 'id'"},
		{"no ttl", "profile", replace(smallProfile, "ttl: 30m\n", ""), "missing property 'ttl'"},
		{"no inputs", "profile", replace(smallProfile, "inputs:\n  repo: {required: true}\n", ""), "missing property 'inputs'"},
		{"no repo", "profile", replace(smallProfile, "repo:", "tree:"), "at '/inputs': missing property 'repo'"},
		{"id of something else", "profile", replace(smallProfile, "profile.small", "ext.small"), "at '/id': 'ext.small' does not match pattern"},
		{"extension of something else", "profile", smallProfile + "extension: profile.small\n", "at '/extension': 'profile.small' does not match pattern"},
		{"port", "profile", smallProfile + "expose: [{service: api, port: 70000}]\n", "at '/expose/0/port': maximum: got 70,000, want 65,535"},
		{"no service", "profile", smallProfile + "expose: [{service: '', port: 80}]\n", "at '/expose/0/service': minLength: got 0, want 1"},
		{"label key", "profile", smallProfile + "labels: {Owner: me}\n", "'Owner' does not match pattern"},
		{"text for a list", "profile", smallProfile + "placement: {prefer: one}\n", "at '/placement/prefer': got string, want array"},

		{"hosts in a manifest", "extension", smallExtension + "hosts: [{name: one, address: 'local:'}]\n", "additional properties 'hosts' not allowed"},
		{"version", "extension", replace(smallExtension, "1.0.0", "v1"), "at '/version': 'v1' does not match pattern"},
		{"no capabilities", "extension", replace(smallExtension, "[dial]", "[]"), "at '/capabilities': minItems: got 0, want 1"},
		{"unknown isolation", "extension", replace(smallExtension, "[container]", "[container, jail]"), "at '/isolation/1': value must be one of"},
		{"wrong pricing", "extension", replace(smallExtension, "self-hosted", "free"), "at '/pricing': value must be one of 'self-hosted', 'metered'"},

		{"no consumer", "create-request", replace(smallRequest, "consumer: {project: demo, actor_type: agt, actor: me}\n", ""), "missing property 'consumer'"},
		{"wrong actor type", "create-request", replace(smallRequest, "agt", "agent"), "at '/consumer/actor_type': value must be one of 'adm', 'agt', 'atm'"},
		{"wrong actor", "create-request", replace(smallRequest, "actor: me", "actor: 'me and you'"), "at '/consumer/actor': 'me and you' does not match pattern"},
		{"input that is no text", "create-request", replace(smallRequest, "repo: .", "repo: 7"), "at '/inputs/repo': got number, want string"},
		{"a timeout", "create-request", smallRequest + "timeout: 3m\n", "additional properties 'timeout' not allowed"},

		{"no hosts", "hosts", "hosts: []\n", "at '/hosts': minItems: got 0, want 1"},
		{"no address", "hosts", "hosts: [{name: a}]\n", "at '/hosts/0': missing property 'address'"},
		{"password", "hosts", smallHosts + "  password: x\n", "at '/hosts/0': additional properties 'password' not allowed"},
		{"host name", "hosts", smallHosts + "  name: Builder\n", "at '/hosts/0/name': 'Builder' does not match pattern"},
		{"root", "hosts", smallHosts + "  root: ~/x\n", "at '/hosts/0/root': '~/x' does not match pattern"},
		{"slots", "hosts", smallHosts + "  slots: -1\n", "at '/hosts/0/slots': minimum: got -1, want 0"},
		{"currency", "hosts", smallHosts + "  price: {currency: euro, micros_per_hour: 1}\n", "at '/hosts/0/price/currency': 'euro' does not match pattern"},
		{"money as text", "hosts", smallHosts + "  price: {currency: EUR, micros_per_hour: much}\n", "at '/hosts/0/price/micros_per_hour': got string, want integer"},
		{"a secret in the file", "secrets", "secrets: {a: {value: hunter2}}\n", "at '/secrets/a': additional properties 'value' not allowed"},
		{"no url", "hub", "shape: progress\n", "missing property 'url'"},
		{"shape", "hub", smallHub + "shape: xml\n", "at '/shape': value must be one of 'cloudevents', 'progress'"},
		{"a token in the file", "hub", smallHub + "token: secret\n", "additional properties 'token' not allowed"},
		{"path", "hub", smallHub + "paths: {event: /x}\n", "at '/paths': additional properties 'event' not allowed"},
		{"how to register", "hub", smallHub + "register: never\n", "at '/register': value must be one of 'auto', 'off'"},
		{"cache", "hosts", smallHosts + "  cache_ttl: forever\n", "at '/hosts/0/cache_ttl': 'forever' does not match pattern"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := load(t, test.schema, []byte(test.text)); err == nil {
				t.Error("the library accepts it")
			}
			err := compile(t, test.schema, "").Validate(fromYAML(t, []byte(test.text)))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v\nwant %s", err, test.want)
			}
		})
	}
}
