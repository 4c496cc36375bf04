// Package settings is the configuration that the sandbox command and sandboxd
// share, so that both work on the same hosts and records: flags, variables of
// the environment, and files of one directory.
package settings

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/compose"
	"github.com/sand-boxer/sandboxer/profiles"
	"github.com/sand-boxer/sandboxer/secrets"
	"github.com/sand-boxer/sandboxer/sqlstore"
	"github.com/sand-boxer/sandboxer/statehub"
)

// Settings say where configuration and records are. What is empty is looked
// for in Dir, and need not be there.
type Settings struct {
	Hosts      string // file, or the address of one host
	DB         string // of records
	ProfileDir string // of profiles that replace embedded ones of the same id
	Secrets    string // file
	Hub        string // file, or the address of a State Hub
}

// Flags adds a flag for each, with its variable of the environment as default.
func (s *Settings) Flags(f *pflag.FlagSet) {
	f.StringVar(&s.Hosts, "hosts", os.Getenv("SANDBOXER_HOSTS"), "hosts file, or an address such as ssh://user@host:22, which may be an alias of ~/.ssh/config (env SANDBOXER_HOSTS; default the file hosts.yaml in the configuration directory, else local:)")
	f.StringVar(&s.DB, "db", os.Getenv("SANDBOXER_DB"), "database of records (env SANDBOXER_DB; default in $XDG_STATE_HOME/sandboxer)")
	f.StringVar(&s.Hub, "hub", os.Getenv("SANDBOXER_HUB"), "State Hub that events go to: a hub file, or an address such as http://127.0.0.1:8070 (env SANDBOXER_HUB; default the file hub.yaml in the configuration directory, else none; the token of an address is in the environment variable SANDBOXER_HUB_TOKEN)")
	f.StringVar(&s.ProfileDir, "profiles", os.Getenv("SANDBOXER_PROFILES"), "directory of profiles; they replace embedded ones of the same id (env SANDBOXER_PROFILES)")
	f.StringVar(&s.Secrets, "secrets", os.Getenv("SANDBOXER_SECRETS"), "file that says where secrets come from (env SANDBOXER_SECRETS; default the file secrets.yaml in the configuration directory, else none)")
}

// Dir is where configuration is looked for that nothing names.
func Dir() (string, error) {
	dir, err := os.UserConfigDir()
	return filepath.Join(dir, "sandboxer"), err
}

// LoadHosts reads the hosts; none means this machine.
func (s *Settings) LoadHosts() ([]compose.HostConfig, error) {
	if strings.HasPrefix(s.Hosts, "ssh://") || strings.HasPrefix(s.Hosts, "local:") {
		h, err := ParseAddress(s.Hosts)
		return []compose.HostConfig{h}, err
	}
	path, text, err := file(s.Hosts, "hosts.yaml")
	if err != nil || text == nil {
		return nil, err
	}
	return compose.ParseHosts(path, text)
}

// sshConfig is where ssh looks hosts up.
const sshConfig = "~/.ssh/config"

// ParseAddress is a host of which there is no more than an address. As with
// ssh, it may be an alias of the user's ssh_config.
func ParseAddress(address string) (compose.HostConfig, error) {
	h, err := compose.ParseHost(address)
	home, homeErr := os.UserHomeDir()
	if err != nil || homeErr != nil || !strings.HasPrefix(h.Address, "ssh:") {
		return h, err
	}
	if _, err := os.Stat(strings.Replace(sshConfig, "~", home, 1)); err == nil {
		h.SSHConfig = sshConfig
	}
	return h, nil
}

// LoadProfiles lets the caller's own stand in for embedded ones of the same id.
func (s *Settings) LoadProfiles() ([]sandboxer.Profile, error) {
	if s.ProfileDir == "" {
		return profiles.Load()
	}
	if _, err := os.Stat(s.ProfileDir); err != nil {
		return nil, fmt.Errorf("profiles: %w: %w", sandboxer.ErrNotFound, err)
	}
	return profiles.Load(os.DirFS(s.ProfileDir))
}

// LoadSecrets reads where secrets come from, and no secret.
func (s *Settings) LoadSecrets() (secrets.Sources, error) {
	all := secrets.Sources{}
	path, text, err := file(s.Secrets, "secrets.yaml")
	if err != nil || text == nil {
		return all, err
	}
	cfg, err := secrets.ParseConfig(path, text)
	maps.Copy(all, cfg.Secrets)
	return all, err
}

// hubToken is where the token of a hub is that is given by its address alone.
const hubToken = "SANDBOXER_HUB_TOKEN"

// LoadHub is a configuration without an address where no hub is configured.
func (s *Settings) LoadHub() (statehub.Config, error) {
	if strings.Contains(s.Hub, "://") {
		cfg := statehub.Config{URL: s.Hub}
		if os.Getenv(hubToken) != "" {
			cfg.TokenEnv = hubToken
		}
		return cfg, cfg.Validate()
	}
	path, text, err := file(s.Hub, "hub.yaml")
	if err != nil || text == nil {
		return statehub.Config{}, err
	}
	return statehub.ParseConfig(path, text)
}

// Database is the path of the records.
func (s *Settings) Database() (string, error) {
	if s.DB != "" {
		return s.DB, nil
	}
	return sqlstore.DefaultPath()
}

// file reads the file given, or of that name in Dir, where none is no error.
func file(given, name string) (path string, text []byte, err error) {
	if path = given; path == "" {
		dir, err := Dir()
		if err != nil {
			return "", nil, nil
		}
		path = filepath.Join(dir, name)
	}
	text, err = os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && given == "" {
		return path, nil, nil
	}
	if err != nil {
		return path, nil, fmt.Errorf("configuration: %w: %w", sandboxer.ErrNotFound, err)
	}
	return path, text, nil
}

// Actor is the user and the machine, for where nobody says who it is.
func Actor() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = filepath.Base(strings.ReplaceAll(u.Username, `\`, "/"))
	}
	machine, _ := os.Hostname()
	return name + "@" + cmp.Or(machine, "localhost")
}
