package config

import (
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fedmsgType is one of the validators of fedmsg.config.
type fedmsgType int

const (
	keyText   fedmsgType = iota // None or str
	keyList                     // None or list
	keyTexts                    // None, str or list
	keyDict                     // None or dict
	keyBool                     // bool, or the text true or false
	keyCount                    // what int() takes, not negative
	keyAmount                   // what float() takes, not negative
)

// fedmsgKeys lists fedmsg's own keys and their types, from
// fedmsg.config.FedmsgConfig. Others belong to plugins of fedmsg.
func fedmsgKeys() map[string]fedmsgType {
	keys := map[string]fedmsgType{
		"post_init_sleep": keyAmount,
		"irc":             keyList, "crypto_validate_backends": keyList,
	}
	add := func(t fedmsgType, names ...string) {
		for _, n := range names {
			keys[n] = t
		}
	}
	add(keyText, "topic_prefix", "environment", "crypto_backend", "ssldir", "crl_location", "crl_cache",
		"ca_cert_location", "ca_cert_cache", "irc_default_color", "irc_method", "stomp_uri", "stomp_user", "stomp_pass",
		"stomp_ssl_crt", "stomp_ssl_key", "datagrepper_url", "name")
	// The validator wants a str, but the publisher takes a list as well, and
	// Fedora's own files have one.
	add(keyTexts, "relay_inbound")
	add(keyDict, "certnames", "routing_policy", "irc_color_lookup", "logging")
	add(keyBool, "print_config", "zmq_enabled", "zmq_strict", "sign_messages", "validate_signatures", "routing_nitpicky", "active", "skip_last_message")
	add(keyCount, "io_threads", "timeout", "high_water_mark", "zmq_linger", "zmq_tcp_keepalive", "zmq_tcp_keepalive_cnt",
		"zmq_tcp_keepalive_idle", "zmq_tcp_keepalive_intvl", "zmq_reconnect_ivl", "zmq_reconnect_ivl_max",
		"fedmsg.consumers.gateway.port", "fedmsg.consumers.gateway.high_water_mark", "crl_cache_expiry", "ca_cert_cache_expiry")
	return keys
}

// fedmsgSettings checks fedmsg's keys and takes those we use. The defaults are
// those of fedmsg's hub, but for validate_signatures (see the warning).
func (r *reader) fedmsgSettings() {
	keys := fedmsgKeys()
	valid := map[string]any{}
	for _, key := range slices.Sorted(maps.Keys(r.merged)) {
		t, ok := keys[key]
		if !ok {
			continue
		}
		v, err := t.validate(r.merged[key])
		if err != nil {
			r.problem(fmt.Errorf("%s: %s %w", r.origins[key], key, err))
			continue
		}
		valid[key] = v
	}
	text := func(key, missing string) string {
		if s, ok := valid[key].(string); ok {
			return s
		}
		return missing
	}
	number := func(key string, missing int64) int64 {
		if n, ok := valid[key].(int64); ok {
			return n
		}
		return missing
	}
	c := &r.cfg
	c.TopicPrefix = text("topic_prefix", "org.fedoraproject")
	c.Environment = text("environment", "dev")
	c.Name = text("name", "")
	c.ValidateSignatures, _ = valid["validate_signatures"].(bool)
	if c.ValidateSignatures {
		r.warn("%s: validate_signatures is on, but signatures are not checked yet: events are stored as \"unchecked\"", r.origins["validate_signatures"])
	}
	c.KeepAlive = KeepAlive{
		Enabled:  number("zmq_tcp_keepalive", 1) != 0,
		Idle:     time.Duration(number("zmq_tcp_keepalive_idle", 30)) * time.Second,
		Interval: time.Duration(number("zmq_tcp_keepalive_intvl", 5)) * time.Second,
		Count:    int(number("zmq_tcp_keepalive_cnt", 3)),
	}
	// As for libzmq, a maximum below the first pause means no growth.
	first, most := number("zmq_reconnect_ivl", 100), number("zmq_reconnect_ivl_max", 1000)
	c.ReconnectMax = time.Duration(max(first, most, 1)) * time.Millisecond
	c.LogLevel = r.logLevel(valid["logging"])
}

// logLevel finds the level of our own logger in the dict that Python's logging.config takes: fedmsg's loggers are not
// ours.
func (r *reader) logLevel(logging any) slog.Level {
	all, _ := logging.(map[string]any)
	loggers, _ := all["loggers"].(map[string]any)
	ours, _ := loggers["statscache"].(map[string]any)
	name, given := ours["level"]
	if !given {
		return slog.LevelInfo
	}
	switch name {
	case "DEBUG", "NOTSET":
		return slog.LevelDebug
	case "INFO":
		return slog.LevelInfo
	case "WARNING", "WARN":
		return slog.LevelWarn
	case "ERROR", "CRITICAL", "FATAL":
		return slog.LevelError
	}
	r.problem(fmt.Errorf("%s: logging: the level of the logger statscache must be \"DEBUG\", \"INFO\", \"WARNING\" or \"ERROR\", not %s", r.origins["logging"], describe(name)))
	return slog.LevelInfo
}

// validate converts a value as the validator of fedmsg does.
func (t fedmsgType) validate(v any) (any, error) {
	ok := v == nil
	switch t {
	case keyText:
		_, is := v.(string)
		if ok = ok || is; !ok {
			return nil, fmt.Errorf("must be a str or None, not %s", describe(v))
		}
	case keyList:
		_, is := v.([]any)
		if ok = ok || is; !ok {
			return nil, fmt.Errorf("must be a list or None, not %s", describe(v))
		}
	case keyTexts:
		_, isList := v.([]any)
		_, isText := v.(string)
		if ok = ok || isList || isText; !ok {
			return nil, fmt.Errorf("must be a str, a list or None, not %s", describe(v))
		}
	case keyDict:
		_, is := v.(map[string]any)
		if ok = ok || is; !ok {
			return nil, fmt.Errorf("must be a dict or None, not %s", describe(v))
		}
	case keyBool:
		return toBool(v)
	case keyCount:
		return toCount(v)
	case keyAmount:
		return toAmount(v)
	}
	return v, nil
}

func toBool(v any) (any, error) {
	if s, ok := v.(string); ok {
		switch strings.ToLower(strings.TrimSpace(s)) {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
	}
	if b, ok := v.(bool); ok {
		return b, nil
	}
	return nil, fmt.Errorf("must be True or False, not %s", describe(v))
}

// toCount is Python's int(v), within what an option of a socket can hold.
func toCount(v any) (any, error) {
	var n int64
	switch x := v.(type) {
	case bool:
		if x {
			n = 1
		}
	case int64:
		n = x
	case float64:
		if math.IsNaN(x) || math.Abs(x) > math.MaxInt32 {
			return nil, fmt.Errorf("is out of range: %s", describe(v))
		}
		n = int64(x)
	case string:
		var err error
		if n, err = strconv.ParseInt(strings.TrimSpace(x), 10, 64); err != nil {
			return nil, fmt.Errorf("must be an int, not %s", describe(v))
		}
	case *big.Int:
		n = math.MaxInt64
	default:
		return nil, fmt.Errorf("must be an int, not %s", describe(v))
	}
	if n < 0 || n > math.MaxInt32 {
		return nil, fmt.Errorf("must be between 0 and %d, not %s", math.MaxInt32, describe(v))
	}
	return n, nil
}

func toAmount(v any) (any, error) {
	f := math.NaN()
	switch x := v.(type) {
	case bool:
		f = 0
		if x {
			f = 1
		}
	case int64:
		f = float64(x)
	case float64:
		f = x
	case string:
		if parsed, err := strconv.ParseFloat(strings.TrimSpace(x), 64); err == nil {
			f = parsed
		}
	}
	if math.IsNaN(f) || f < 0 {
		return nil, fmt.Errorf("must be a number of 0 or more, not %s", describe(v))
	}
	return f, nil
}
