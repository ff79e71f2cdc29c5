// Package proto is the wire contract between statscache and its plugins: plugin.proto, what is generated from it, and
// the few names that both sides must agree on.
package proto

import (
	plugin "github.com/hashicorp/go-plugin"
)

//go:generate go run ../../tools/protogen plugin.proto

const (
	// CookieKey is the environment variable that tells a program that it was started as a plugin.
	CookieKey = "STATSCACHE_PLUGIN"
	// CookieValue is its value.
	CookieValue = "v1"
	// Service is the name under which a plugin offers itself to go-plugin.
	Service = "statscache"
	// MaxMessageBytes bounds one message in either direction: a full block of the largest bodies, with room.
	MaxMessageBytes = 64 << 20
)

// Handshake gives go-plugin's handshake: protocol 1 with the cookie.
func Handshake() plugin.HandshakeConfig {
	return plugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: CookieKey, MagicCookieValue: CookieValue}
}
