package admission

import "github.com/sand-boxer/sandboxer"

// A Plan is what will run, wherever that is. It is immutable.
type Plan struct {
	Services    []Service    // by name
	Networks    []Network    // by key
	Volumes     []string     // keys of named volumes, sorted
	Images      []string     // to pull where they are absent, sorted
	Pins        []Pin        // files that must lie in Placement.PinDir
	SecretFiles []SecretFile // files that must lie in Placement.SecretDir
	Mkdirs      []string     // directories of the workspace, relative to it, that binds need and the tree lacks; parents first
	Build       bool         // whether anything is built

	policy     Policy
	id         string
	generation int

	proxied  []string // keys of the networks that the proxy stands on, sorted
	services map[string]*service
	networks map[string]*network
	volumes  map[string]*canonicalVolume
	secrets  map[string]location
	configs  map[string]location
}

// A Service as it will run.
type Service struct {
	Name           string
	Built          bool   // its image is built here, by this service or another; never pulled
	Image          string // as pulled, or the name it is built under by [DefaultImagePrefix]
	Replicas       int
	OneShot        bool // another service waits for it to complete successfully
	RestartsAlways bool // the file wants it to run again whenever it ends
	HasHealthcheck bool // the file gives it one; its image may have one regardless
	Ports          []Port
	Networks       []string // keys, sorted
	NetworkMode    string   // "none" or "service:NAME" instead of networks
}

// A Port that the file would have published.
type Port struct {
	Target    int
	Protocol  string // "tcp" or "udp", as written
	Published string // a port or a range, as written
	Name      string
}

// A Network of the sandbox.
type Network struct {
	Key        string
	Internal   bool // the file itself cuts it off
	Containers int  // how many containers are attached to it, replicas counted
}

// A Pin is a file or directory that must not lie in the workspace, where a
// container could replace it by a link before it is mounted. It comes from one
// of three: Source, Dir or Data.
type Pin struct {
	Name   string // below Placement.PinDir, one path element: "0001-nginx.conf"
	Source string // a file or directory of the tree, copied with the modes it has there before anything runs
	Dir    bool   // an empty directory, mode 0755
	Data   []byte // the content itself, with Mode
	Mode   uint32
}

// BuildEgress says whether what is built may use the network meanwhile.
func (p *Plan) BuildEgress() sandboxer.Egress {
	for _, s := range p.services {
		if s.build != nil && s.build.fixed.Network != "none" {
			return sandboxer.EgressAllow
		}
	}
	return sandboxer.EgressDeny
}

// DefaultImagePrefix is where images built for a sandbox are named.
func DefaultImagePrefix(id string) string { return imageNamespace + id }

const imageNamespace = "sandboxer.local/"

// location is a path on a host that is not known yet.
type location struct {
	pin    bool   // below PinDir, not in the workspace
	secret bool   // below SecretDir
	path   string // clean, relative
}

// inTree reports whether containers may have replaced what is there.
func (l location) inTree() bool { return !l.pin && !l.secret }

// service is what render needs of one service.
type service struct {
	fixed  canonicalService // what does not depend on the host
	built  string           // the image's name below the prefix, if it is built here
	build  *build
	mounts []mount
}

type mount struct {
	canonicalMount
	from location // of a bind
}

type build struct {
	fixed      canonicalBuild
	context    location
	dockerfile string // relative to the context; or
	pinned     string // the name of a pin
	contexts   map[string]location
}

type network struct {
	options  map[string]string // harmless driver options of the file
	internal bool
}
