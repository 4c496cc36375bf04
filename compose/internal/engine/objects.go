package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Kind is a kind of object that an engine keeps.
type Kind string

// The kinds of objects that carry labels.
const (
	KindContainer Kind = "container"
	KindNetwork   Kind = "network"
	KindVolume    Kind = "volume"
	KindImage     Kind = "image"
)

// Object is a labelled thing that an engine keeps.
type Object struct {
	Kind   Kind
	ID     string // a volume's is its name
	Name   string // an image's is its first reference, or its id if it has none
	State  string // of a container: "running", "exited"; otherwise empty
	Labels map[string]string
}

// Inventory is everything on an engine that carries some labels: containers, then networks, volumes and images.
type Inventory []Object

// Objects lists all four kinds of objects that carry every one of the labels, each written "key=value". An inventory
// without error is complete, and an empty one is the proof that nothing of the kind is left; when any kind could not
// be listed in full there is an error and no inventory. No labels at all are an error too.
func (c *Client) Objects(ctx context.Context, labels ...string) (Inventory, error) {
	listings := []func() (Inventory, error){
		func() (Inventory, error) { return objects(c.Containers(ctx, labels...)) },
		func() (Inventory, error) { return objects(c.Networks(ctx, labels...)) },
		func() (Inventory, error) { return objects(c.Volumes(ctx, labels...)) },
		func() (Inventory, error) { return objects(c.Images(ctx, labels...)) },
	}
	found := make([]Inventory, len(listings))
	failed := make([]error, len(listings))
	var all sync.WaitGroup
	for i, list := range listings {
		all.Go(func() { found[i], failed[i] = list() })
	}
	all.Wait()
	if err := errors.Join(failed...); err != nil {
		return nil, err
	}
	inventory := Inventory{}
	for _, some := range found {
		inventory = append(inventory, some...)
	}
	return inventory, nil
}

func objects[T interface{ object() Object }](listed []T, err error) (Inventory, error) {
	inventory := make(Inventory, 0, len(listed))
	for _, l := range listed {
		inventory = append(inventory, l.object())
	}
	return inventory, err
}

// Container is a container as a list shows it, in whatever state it is.
type Container struct {
	ID       string
	Name     string
	Image    string // as it was asked for
	ImageID  string
	State    string // "created", "running", "paused", "restarting", "removing", "exited" or "dead"
	Created  time.Time
	Labels   map[string]string
	Networks map[string]Endpoint // by the network's name
}

// Endpoint is a container's place on a network. The addresses are invalid while the container does not run.
type Endpoint struct {
	NetworkID string
	IPv4      netip.Addr
	IPv6      netip.Addr
}

func (c Container) object() Object {
	return Object{Kind: KindContainer, ID: c.ID, Name: c.Name, State: c.State, Labels: c.Labels}
}

// Containers lists the containers, running or not, that carry every one of the labels, each written "key=value".
func (c *Client) Containers(ctx context.Context, labels ...string) ([]Container, error) {
	var answer []struct {
		ID              string
		Names           []string
		Image, ImageID  string
		State           string
		Created         int64
		Labels          map[string]string
		NetworkSettings struct{ Networks map[string]endpoint }
	}
	if err := c.list(ctx, "/containers/json", labels, "all", &answer); err != nil {
		return nil, err
	}
	containers := make([]Container, 0, len(answer))
	for _, a := range answer {
		if carries(a.Labels, labels) {
			containers = append(containers, Container{
				ID: a.ID, Name: ownName(a.Names), Image: a.Image, ImageID: a.ImageID, State: a.State,
				Created: time.Unix(a.Created, 0), Labels: a.Labels, Networks: endpoints(a.NetworkSettings.Networks),
			})
		}
	}
	return containers, nil
}

// ownName picks a container's name from those that links gave it, which hold a second slash.
func ownName(names []string) string {
	for _, name := range names {
		if name = strings.TrimPrefix(name, "/"); !strings.Contains(name, "/") {
			return name
		}
	}
	return ""
}

// endpoint is an [Endpoint] as the API writes it: addresses are empty where there are none.
type endpoint struct{ NetworkID, IPAddress, GlobalIPv6Address string }

func endpoints(answer map[string]endpoint) map[string]Endpoint {
	networks := make(map[string]Endpoint, len(answer))
	for name, a := range answer {
		v4, _ := netip.ParseAddr(a.IPAddress)
		v6, _ := netip.ParseAddr(a.GlobalIPv6Address)
		networks[name] = Endpoint{NetworkID: a.NetworkID, IPv4: v4, IPv6: v6}
	}
	return networks
}

// Network is a network as a list shows it.
type Network struct {
	ID       string
	Name     string
	Driver   string
	Internal bool
	Labels   map[string]string
}

func (n Network) object() Object {
	return Object{Kind: KindNetwork, ID: n.ID, Name: n.Name, Labels: n.Labels}
}

// Networks lists the networks that carry every one of the labels, each written "key=value".
func (c *Client) Networks(ctx context.Context, labels ...string) ([]Network, error) {
	var answer []Network
	if err := c.list(ctx, "/networks", labels, "", &answer); err != nil {
		return nil, err
	}
	networks := make([]Network, 0, len(answer))
	for _, n := range answer {
		if carries(n.Labels, labels) {
			networks = append(networks, n)
		}
	}
	return networks, nil
}

// Volume is a volume as a list shows it. Its name is its id.
type Volume struct {
	Name       string
	Driver     string
	Mountpoint string // on the engine's machine
	Labels     map[string]string
}

func (v Volume) object() Object {
	return Object{Kind: KindVolume, ID: v.Name, Name: v.Name, Labels: v.Labels}
}

// Volumes lists the volumes that carry every one of the labels, each written "key=value". It fails when a volume
// driver did not answer the engine, for then the list is not complete.
func (c *Client) Volumes(ctx context.Context, labels ...string) ([]Volume, error) {
	var answer struct {
		Volumes  []Volume
		Warnings []string
	}
	if err := c.list(ctx, "/volumes", labels, "", &answer); err != nil {
		return nil, err
	}
	if len(answer.Warnings) > 0 {
		return nil, &Error{Op: "GET /volumes", Message: "the list is not complete: " + strings.Join(answer.Warnings, "; ")}
	}
	volumes := make([]Volume, 0, len(answer.Volumes))
	for _, v := range answer.Volumes {
		if carries(v.Labels, labels) {
			volumes = append(volumes, v)
		}
	}
	return volumes, nil
}

// Image is an image as a list shows it.
type Image struct {
	ID      string // "sha256:…"
	Tags    []string
	Created time.Time
	Size    int64 // bytes, shared layers included
	Labels  map[string]string
}

func (i Image) object() Object {
	name := i.ID
	if len(i.Tags) > 0 {
		name = i.Tags[0]
	}
	return Object{Kind: KindImage, ID: i.ID, Name: name, Labels: i.Labels}
}

// Images lists the images, untagged and intermediate ones included, that carry every one of the labels, each written
// "key=value".
func (c *Client) Images(ctx context.Context, labels ...string) ([]Image, error) {
	var answer []struct {
		ID       string
		RepoTags []string
		Created  int64
		Size     int64
		Labels   map[string]string
	}
	if err := c.list(ctx, "/images/json", labels, "all", &answer); err != nil {
		return nil, err
	}
	images := make([]Image, 0, len(answer))
	for _, a := range answer {
		if carries(a.Labels, labels) {
			images = append(images, Image{
				ID: a.ID, Tags: named(a.RepoTags), Created: time.Unix(a.Created, 0), Size: a.Size, Labels: a.Labels,
			})
		}
	}
	return images, nil
}

// named drops the placeholder that engines before API 1.43 give instead of no tag.
func named(tags []string) []string {
	var kept []string
	for _, tag := range tags {
		if tag != "<none>:<none>" {
			kept = append(kept, tag)
		}
	}
	return kept
}

// list asks for the objects that carry all labels; the parameter named switch is set to true unless empty.
func (c *Client) list(ctx context.Context, path string, labels []string, on string, out any) error {
	if len(labels) == 0 {
		return fmt.Errorf("GET %s: a label to list by is needed", path)
	}
	for _, label := range labels {
		if key, _, ok := strings.Cut(label, "="); key == "" || !ok {
			return fmt.Errorf(`GET %s: label %q is not of the form "key=value"`, path, label)
		}
	}
	query := filters(map[string][]string{"label": labels})
	if on != "" {
		query.Set(on, "true")
	}
	return c.call(ctx, request{method: "GET", path: path, query: query}, out)
}

// carries repeats the engine's filter, since what a list holds may be removed.
func carries(have map[string]string, labels []string) bool {
	for _, label := range labels {
		key, value, _ := strings.Cut(label, "=")
		if v, ok := have[key]; !ok || v != value {
			return false
		}
	}
	return true
}
