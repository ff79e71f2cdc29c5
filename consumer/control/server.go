package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	// maxImports bounds the imports under way at once: each takes some memory.
	maxImports = 8
	// writeTimeout is how long a client may leave an event of its import unread.
	writeTimeout = 30 * time.Second
	// hangUpTimeout is how long a client that was told the end may go on sending.
	hangUpTimeout = time.Second
	// stopTimeout bounds how long requests under way may take to say that the daemon stops.
	stopTimeout = 2 * time.Second
)

// errStopping is why requests end that are under way when the daemon stops.
var errStopping = errors.New("the daemon is stopping")

// Server answers at the control socket.
type Server struct {
	daemon  Daemon
	log     *slog.Logger
	http    *http.Server
	imports chan struct{} // a place for each import under way
	living  context.Context
	end     context.CancelCauseFunc
	served  chan struct{}
}

// Serve makes the socket and answers at it until Stop. The caller holds the lock of the data dir.
func Serve(path string, d Daemon, log *slog.Logger) (*Server, error) {
	l, err := listen(path)
	if err != nil {
		return nil, err
	}
	s := &Server{daemon: d, log: log, imports: make(chan struct{}, maxImports), served: make(chan struct{})}
	s.living, s.end = context.WithCancelCause(context.Background())
	mux := http.NewServeMux()
	mux.HandleFunc("POST /import", s.importFiles)
	mux.HandleFunc("GET /plugins", s.plugins)
	mux.HandleFunc("POST /plugins/{id}/{verb}", s.command)
	if r, ok := d.(Requeuer); ok {
		mux.HandleFunc("POST /plugins/{id}/requeue", s.requeue(r))
	}
	if r, ok := d.(Replayer); ok {
		mux.HandleFunc("POST /rejects/replay", s.replay(r))
	}
	if x, ok := d.(Worker); ok {
		mux.HandleFunc("POST /recount", s.recount(x))
		mux.HandleFunc("POST /repair", s.repair(x))
	}
	if k, ok := d.(Keeper); ok {
		mux.HandleFunc("POST /backup", s.backup(k))
		mux.HandleFunc("POST /compact", s.compact(k))
	}
	if m, ok := d.(Migrator); ok {
		mux.HandleFunc("POST /migrate", s.migrate(m))
	}
	if b, ok := d.(Backfiller); ok {
		mux.HandleFunc("POST /backfill", s.backfill(b))
	}
	s.http = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return s.living }, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	go func() {
		defer close(s.served)
		if err := s.http.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			log.Error("the control socket is closed: commands can't work beside this daemon", "error", err)
		}
	}()
	return s, nil
}

// Stop ends what is under way, tells its clients why, and removes the socket.
func (s *Server) Stop() error {
	s.end(errStopping)
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close() // whoever still reads is cut off
	}
	<-s.served
	return err
}

func (s *Server) plugins(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{"plugins": s.daemon.Plugins()})
}

func (s *Server) command(w http.ResponseWriter, r *http.Request) {
	result, err := s.daemon.CommandPlugin(r.Context(), r.PathValue("verb"), r.PathValue("id"))
	if err != nil {
		answer(w, http.StatusConflict, Event{Error: s.why(r.Context(), err).Error()})
		return
	}
	answer(w, http.StatusOK, result)
}

// why gives the reason for an error that ended a request: that the daemon stops says more than that a context ended.
func (s *Server) why(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && (errors.Is(err, context.Canceled) || errors.Is(cause, errStopping)) {
		return cause
	}
	return err
}

func answer(w http.ResponseWriter, code int, body any) {
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // a client that went away needs no answer
}

// importFiles feeds what a client sends and tells it what becomes of it meanwhile.
func (s *Server) importFiles(w http.ResponseWriter, r *http.Request) {
	select {
	case s.imports <- struct{}{}:
		defer func() { <-s.imports }()
	default:
		answer(w, http.StatusServiceUnavailable, Event{Error: fmt.Sprintf("%d imports are under way already; try again when one has ended", maxImports)})
		return
	}
	parts, err := r.MultipartReader()
	if err != nil {
		answer(w, http.StatusBadRequest, Event{Error: "import: " + err.Error()})
		return
	}
	rc := http.NewResponseController(w)
	if err := rc.EnableFullDuplex(); err != nil {
		answer(w, http.StatusInternalServerError, Event{Error: "import: " + err.Error()})
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	// A read of the body doesn't end with the context by itself.
	unhook := context.AfterFunc(ctx, func() { _ = rc.SetReadDeadline(time.Unix(1, 0)) })
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	t := startTeller(w, rc, cancel)
	sum, err := s.daemon.ImportFiles(ctx, nextPart(parts), ImportOptions{Progress: t.progress, Bad: t.bad, NoWait: r.URL.Query().Has("no-wait")})
	unhook()
	if err != nil {
		t.finish(Event{Error: s.why(ctx, err).Error()})
	} else {
		t.finish(Event{Summary: &sum})
	}
	// A client that is cut off while it sends may not get to read why: it has a moment to hang up by itself.
	_ = rc.SetReadDeadline(time.Now().Add(hangUpTimeout))
	_, _ = io.Copy(io.Discard, r.Body)
}

// errAborted is why an import ends whose client could not read its files on.
var errAborted = errors.New("the client gave up")

func nextPart(parts *multipart.Reader) NextFile {
	return func() (string, io.Reader, error) {
		p, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) { // a body that was cut short: the end has a part of its own
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return "", nil, fmt.Errorf("the connection to the client broke off: %w", err)
		}
		if p.Header.Get(abortHeader) != "" {
			return "", nil, errAborted
		}
		if p.Header.Get(endHeader) != "" {
			return "", nil, io.EOF
		}
		name, err := url.PathUnescape(p.Header.Get(fileHeader))
		if err != nil {
			return "", nil, fmt.Errorf("name of a file: %w", err)
		}
		return name, p, nil
	}
}
