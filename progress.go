package sandboxer

import "context"

// Progress is one step of a long operation, for people who wait.
type Progress struct {
	Stage   string `json:"stage"`             // "upload", "build", "up", "ready", "teardown"
	Message string `json:"message,omitempty"` // one line
	Done    int64  `json:"done,omitempty"`    // of Total, in Unit
	Total   int64  `json:"total,omitempty"`   // 0 when unknown
	Unit    string `json:"unit,omitempty"`    // "bytes", "services", "images"
}

type progressKey struct{}

// WithProgress returns a context whose operations report their progress to
// report. It is called from the goroutine of the operation, possibly from
// several at once, and should return quickly.
func WithProgress(ctx context.Context, report func(Progress)) context.Context {
	return context.WithValue(ctx, progressKey{}, report)
}

// ReportProgress hands p to the function that the caller of the operation put
// into ctx, if there is one. Extensions call it.
func ReportProgress(ctx context.Context, p Progress) {
	if report, ok := ctx.Value(progressKey{}).(func(Progress)); ok {
		report(p)
	}
}
