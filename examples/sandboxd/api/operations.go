package api

import (
	"net/http"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// An Operation is one method of one path: what the server routes, checks and
// answers, and what the OpenAPI document says.
type Operation struct {
	ID         string
	Method     string
	Path       string // as http.ServeMux writes it
	Summary    string
	About      string
	Open       bool // needs no token
	Admin      bool // needs an administrator's token
	Parameters []Parameter
	Body       any // zero value of the document that is sent, as application/json; nil for none
	Answers    []Answer
	Problems   []int // statuses of problems, besides those that every operation may have
}

// DocumentPath is the path as OpenAPI writes it.
func (o Operation) DocumentPath() string { return strings.TrimSuffix(o.Path, "{$}") }

// In is where a parameter stands.
type In string

// The places.
const (
	InPath   In = "path"
	InQuery  In = "query"
	InHeader In = "header"
)

// Kind is what a parameter holds.
type Kind string

// The kinds.
const (
	Text   Kind = "text"
	Number Kind = "number" // whole, from Min to Max
	Flag   Kind = "flag"   // true or false
	Choice Kind = "choice" // one of Choices
	Moment Kind = "moment" // a time (RFC 3339), or a duration for so long ago
	Pair   Kind = "pair"   // key=value
)

// A Parameter is one value beside the body. In the query it stands at most
// once, unless it repeats.
type Parameter struct {
	Name     string
	In       In
	Kind     Kind
	About    string
	Choices  []string
	Usual    int // of a Number that is left out
	Min, Max int // of a Number; Max is the most bytes of a Text
	Repeats  bool
}

// An Answer is one way to succeed.
type Answer struct {
	Status   int
	About    string
	Type     string // media type; application/json if empty and there is a document
	Document any    // zero value; nil is no body, or text without a schema
	Headers  []string
}

// JSONType is the media type of every document that is no problem.
const JSONType = "application/json"

// StreamType is the media type of server-sent events.
const StreamType = "text/event-stream"

// MaxKey is the longest idempotency key.
const MaxKey = 255

// CommonProblems are the statuses that every operation may answer with.
func CommonProblems() []int {
	return []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusInternalServerError, http.StatusServiceUnavailable}
}

func wait() Parameter {
	return Parameter{Name: "Prefer", In: InHeader, Kind: Text, Max: 200, About: "respond-async: answer 202 as soon as the work is recorded. wait=N: wait so many seconds at most, then answer 202 (RFC 7240)."}
}

func match(about string) Parameter {
	return Parameter{Name: "If-Match", In: InHeader, Kind: Text, Max: 1000, About: "Do it only if the sandbox's entity tag is one of these, or *. " + about}
}

func id() Parameter {
	return Parameter{Name: "id", In: InPath, Kind: Text, Max: 64, About: "The sandbox's id."}
}

func page(what string) []Parameter {
	return []Parameter{
		{Name: "limit", In: InQuery, Kind: Number, Usual: 100, Min: 1, Max: 1000, About: "The most " + what + " that one answer lists."},
		{Name: "cursor", In: InQuery, Kind: Text, Max: 200, About: "Where to go on: the last answer's next."},
	}
}

func events() []Parameter {
	return append(page("events"),
		Parameter{Name: "since", In: InQuery, Kind: Moment, About: "Only events from then on: a time, or a duration for so long ago."},
		Parameter{Name: "Last-Event-ID", In: InHeader, Kind: Text, Max: 100, About: "In a stream, go on after this event."})
}

func words[T ~string](all []T) []string {
	out := make([]string, len(all))
	for i, w := range all {
		out[i] = string(w)
	}
	return out
}

// tagged are the headers of an answer that shows one sandbox as it is recorded.
func tagged(more ...string) []string { return append([]string{"ETag"}, more...) }

// change is an operation on a recorded sandbox that is done at once.
func change(id_, name, summary, about string, body any, problems ...int) Operation {
	return Operation{
		ID: id_, Method: http.MethodPost, Path: "/v1/sandboxes/{id}/" + name, Summary: summary, About: about, Body: body,
		Parameters: []Parameter{id(), match("412 otherwise.")},
		Answers:    []Answer{{Status: http.StatusOK, About: "The sandbox as it is now.", Document: sandboxer.Sandbox{}, Headers: tagged()}},
		Problems:   append([]int{http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed}, problems...),
	}
}

// long are the problems of operations that work on a host.
func long(more ...int) []int {
	return append([]int{http.StatusNotFound, http.StatusConflict, http.StatusFailedDependency, http.StatusBadGateway, http.StatusGatewayTimeout}, more...)
}

// withBody are the problems that come with a body.
func withBody(more ...int) []int {
	return append([]int{http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity}, more...)
}

const underWay = "The work goes on; Location is the sandbox, whose events tell the rest."

// Operations is the one table of what the server answers.
func Operations() []Operation {
	document := sandboxer.Sandbox{}
	return []Operation{
		{
			ID: "createSandbox", Method: http.MethodPost, Path: "/v1/sandboxes", Summary: "Establish a sandbox",
			About: "Answers 201 when the sandbox is ready. Without Prefer the request waits as long as the server allows, which is more than creates take. " +
				"With an Idempotency-Key the work goes on when the client leaves: the same request with the same key joins it or gets its sandbox. " +
				"Without a key, a client that leaves before it has an answer ends the work, and what was made is removed.",
			Parameters: []Parameter{wait(), {Name: "Idempotency-Key", In: InHeader, Kind: Text, Max: MaxKey, About: "The same key and request of a project give the same sandbox; another request with the key is a conflict."}},
			Body:       CreateRequest{},
			Answers: []Answer{
				{Status: http.StatusCreated, About: "The sandbox is ready.", Document: document, Headers: tagged("Location")},
				{Status: http.StatusOK, About: "The key was used before: the sandbox of that time, as it is now.", Document: document, Headers: tagged("Location")},
				{Status: http.StatusAccepted, About: underWay, Document: document, Headers: []string{"Location", "Retry-After", "Preference-Applied"}},
			},
			Problems: long(withBody(http.StatusTooManyRequests)...),
		},
		{
			ID: "listSandboxes", Method: http.MethodGet, Path: "/v1/sandboxes", Summary: "List sandboxes, oldest first",
			About: "Without state or all, those that are not destroyed.",
			Parameters: append(page("sandboxes"),
				Parameter{Name: "state", In: InQuery, Kind: Choice, Choices: words(sandboxer.States()), Repeats: true, About: "Only in one of these states."},
				Parameter{Name: "all", In: InQuery, Kind: Flag, About: "Destroyed ones too."},
				Parameter{Name: "project", In: InQuery, Kind: Text, Max: 128, About: "Only of this project."},
				Parameter{Name: "actor_type", In: InQuery, Kind: Choice, Choices: words([]sandboxer.ActorType{sandboxer.ActorAdmin, sandboxer.ActorAgent, sandboxer.ActorAutomation}), About: "Only of this type of actor."},
				Parameter{Name: "profile", In: InQuery, Kind: Text, Max: 128, About: "Only of this profile."},
				Parameter{Name: "host", In: InQuery, Kind: Text, Max: 128, About: "Only on this host."},
				Parameter{Name: "label", In: InQuery, Kind: Pair, Repeats: true, About: "Only with this label, key=value."}),
			Answers: []Answer{{Status: http.StatusOK, About: "A page.", Document: SandboxPage{}, Headers: []string{"Link"}}},
		},
		{
			ID: "getSandbox", Method: http.MethodGet, Path: "/v1/sandboxes/{id}", Summary: "Show a sandbox",
			Parameters: []Parameter{id(),
				{Name: "observe", In: InQuery, Kind: Flag, About: "Also ask its host what is there now. The answer then has no entity tag."},
				{Name: "If-None-Match", In: InHeader, Kind: Text, Max: 1000, About: "Answer 304 if the entity tag is one of these."}},
			Answers: []Answer{
				{Status: http.StatusOK, About: "What is recorded.", Document: document, Headers: tagged()},
				{Status: http.StatusNotModified, About: "Nothing has changed.", Headers: tagged()},
			},
			Problems: []int{http.StatusNotFound, http.StatusGatewayTimeout},
		},
		{
			ID: "destroySandbox", Method: http.MethodDelete, Path: "/v1/sandboxes/{id}", Summary: "Remove a sandbox and prove it absent",
			About:      "Legal in every state; repeating it is harmless. The work goes on when the client leaves.",
			Parameters: []Parameter{id(), wait(), match("412 otherwise.")},
			Answers: []Answer{
				{Status: http.StatusOK, About: "It is destroyed: its host was asked and holds nothing.", Document: document, Headers: tagged()},
				{Status: http.StatusAccepted, About: underWay, Document: document, Headers: []string{"Location", "Retry-After", "Preference-Applied"}},
			},
			Problems: long(http.StatusPreconditionFailed),
		},
		{
			ID: "recreateSandbox", Method: http.MethodPost, Path: "/v1/sandboxes/{id}/recreate", Summary: "Tear a sandbox down and establish it again under its id",
			About:      "Whatever is in it is lost, so it must be said of which state: a repeated request does not lose the next generation, too. The work goes on when the client leaves.",
			Parameters: []Parameter{id(), wait(), match("412 otherwise, 428 without.")},
			Answers: []Answer{
				{Status: http.StatusOK, About: "It is ready again, in its next generation.", Document: document, Headers: tagged()},
				{Status: http.StatusAccepted, About: underWay, Document: document, Headers: []string{"Location", "Retry-After", "Preference-Applied"}},
			},
			Problems: long(http.StatusPreconditionFailed, http.StatusUnprocessableEntity, http.StatusPreconditionRequired),
		},
		change("extendSandbox", "extend", "Let a sandbox live at least so long from now", "A life is never shortened; beyond the profile's max_ttl nothing is changed.",
			ExtendRequest{}, withBody(http.StatusBadGateway, http.StatusGatewayTimeout)...),
		change("activateSandbox", "activate", "Record that work in a sandbox has begun", "", nil),
		change("deactivateSandbox", "deactivate", "Record that work in a sandbox has ended", "", nil),
		{
			ID: "listSandboxEvents", Method: http.MethodGet, Path: "/v1/sandboxes/{id}/events", Summary: "The history of a sandbox, or its stream",
			About: "Events are in order and without gaps. A stream begins with the first event since the given time and after Last-Event-ID, tells the progress of work in between as events of the name progress, " +
				"and ends when the sandbox is destroyed; asked for more, it answers 204. It takes no limit and no cursor: 400.",
			Parameters: append([]Parameter{id()}, events()...),
			Answers: []Answer{
				{Status: http.StatusOK, About: "A page of events.", Document: EventPage{}, Headers: []string{"Link"}},
				{Status: http.StatusOK, About: "Server-sent events; data is an Event, or a Report under the name progress.", Type: StreamType},
				{Status: http.StatusNoContent, About: "Nothing can follow the event of Last-Event-ID, or nothing was since."},
			},
			Problems: []int{http.StatusNotFound},
		},
		{
			ID: "listEvents", Method: http.MethodGet, Path: "/v1/events", Summary: "The history of all sandboxes, or its stream",
			About: "By time. A stream begins with the first event since the given time, or where Last-Event-ID stands; what other processes do with the same store is seen within two seconds. " +
				"After a resume events of the last seconds may come again, with the ids that they had. A stream takes no limit and no cursor: 400.",
			Parameters: events(),
			Answers: []Answer{
				{Status: http.StatusOK, About: "A page of events.", Document: EventPage{}, Headers: []string{"Link"}},
				{Status: http.StatusOK, About: "Server-sent events; data is an Event, or a Report under the name progress.", Type: StreamType},
			},
		},
		{
			ID: "planSandbox", Method: http.MethodPost, Path: "/v1/plan", Summary: "Say what a create would do, and create nothing",
			Parameters: []Parameter{{Name: "probe", In: InQuery, Kind: Flag, About: "Ask every host whether it can be used now."}},
			Body:       CreateRequest{},
			Answers:    []Answer{{Status: http.StatusOK, About: "The plan; its admission may be a denial.", Document: sandboxer.Plan{}}},
			Problems:   withBody(http.StatusNotFound, http.StatusBadGateway, http.StatusGatewayTimeout),
		},
		{
			ID: "listProfiles", Method: http.MethodGet, Path: "/v1/profiles", Summary: "List the profiles",
			Answers: []Answer{{Status: http.StatusOK, About: "All profiles, by id.", Document: ProfileList{}}},
		},
		{
			ID: "listHosts", Method: http.MethodGet, Path: "/v1/hosts", Summary: "List the hosts and their free slots",
			About:   "An answer may be five seconds old.",
			Answers: []Answer{{Status: http.StatusOK, About: "Every host; one that cannot be used with the reason.", Document: HostList{}}},
		},
		{
			ID: "getUsage", Method: http.MethodGet, Path: "/v1/usage", Summary: "Add up what sandboxes used",
			Parameters: []Parameter{
				{Name: "by", In: InQuery, Kind: Choice, Choices: words([]sandboxer.MeterBy{sandboxer.ByConsumer, sandboxer.ByProject, sandboxer.ByHost, sandboxer.ByProfile, sandboxer.BySandbox}), About: "What to add up by; consumer if left out."},
				{Name: "since", In: InQuery, Kind: Moment, About: "From when: a time, or a duration for so long ago."},
				{Name: "until", In: InQuery, Kind: Moment, About: "Until when; now if left out."},
			},
			Answers: []Answer{{Status: http.StatusOK, About: "The meters.", Document: Usage{}}},
		},
		{
			ID: "getHealth", Method: http.MethodGet, Path: "/healthz", Summary: "Say whether the server can work", Open: true,
			Answers: []Answer{{Status: http.StatusOK, About: "It can.", Document: Health{}}},
		},
		{
			ID: "getMetrics", Method: http.MethodGet, Path: "/metrics", Summary: "Numbers in Prometheus' text form", Admin: true,
			Answers: []Answer{{Status: http.StatusOK, About: "The numbers.", Type: "text/plain; version=0.0.4; charset=utf-8"}},
		},
		{
			ID: "getOpenAPI", Method: http.MethodGet, Path: "/openapi.json", Summary: "This document", Open: true,
			Answers: []Answer{{Status: http.StatusOK, About: "OpenAPI 3.1.", Type: "application/openapi+json"}},
		},
		{
			ID: "getPage", Method: http.MethodGet, Path: "/{$}", Summary: "Sandboxes, hosts and events as they change, for people", Open: true,
			Answers: []Answer{{Status: http.StatusOK, About: "A page.", Type: "text/html; charset=utf-8"}},
		},
	}
}
