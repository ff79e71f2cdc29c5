package api

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/pprof"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check says whether one thing that a role needs is as it should be.
type Check struct {
	Role   string `json:"role"` // consume, compute or serve
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"` // why not
}

// AdminOptions say what the operators' listener shows.
type AdminOptions struct {
	Ready    func() []Check // of the roles that this process has; nil: not ready
	Status   func() Status  // nil: there is no /status
	Gatherer prometheus.Gatherer
	Logger   *slog.Logger
}

// readiness is the answer of /readyz.
type readiness struct {
	Ready  bool    `json:"ready"`
	Checks []Check `json:"checks"`
}

// NewAdmin is the operators' face: health, readiness, Prometheus metrics and profiles. It belongs on a listener that
// the public can't reach.
func NewAdmin(o AdminOptions) http.Handler {
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ready := o.Ready
	if ready == nil {
		ready = func() []Check { return nil }
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeAdmin(w, http.StatusOK, map[string]bool{"alive": true})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { writeReady(w, ready()) })
	for _, role := range []string{"consume", "compute", "serve"} {
		mux.HandleFunc("GET /readyz/"+role, func(w http.ResponseWriter, _ *http.Request) {
			var own []Check
			for _, c := range ready() {
				if c.Role == role {
					own = append(own, c)
				}
			}
			if own == nil {
				own = []Check{{Role: role, Name: "role", Reason: "this process does not " + role}}
			}
			writeReady(w, own)
		})
	}
	if o.Status != nil { // what /api/v1/status says, for processes without the API
		mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { writeAdmin(w, http.StatusOK, o.Status()) })
	}
	if o.Gatherer != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{
			ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelError),
			MaxRequestsInFlight: 4,
			EnableOpenMetrics:   true,
		}))
	}
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// writeReady answers 200 when every check passes and there is one at all.
func writeReady(w http.ResponseWriter, checks []Check) {
	all := readiness{Ready: len(checks) > 0, Checks: checks}
	if checks == nil {
		all.Checks = []Check{}
	}
	for _, c := range checks {
		all.Ready = all.Ready && c.OK
	}
	status := http.StatusOK
	if !all.Ready {
		status = http.StatusServiceUnavailable
	}
	writeAdmin(w, status, all)
}

func writeAdmin(w http.ResponseWriter, status int, v any) {
	body, _ := json.Marshal(v) // plain structs: it can't fail
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
