package api

import (
	"context"
	_ "embed"

	"github.com/labstack/echo/v4"
)

// openapiDocument describes every route of the public face. It is written by hand; tests hold each answer to it.
//
//go:embed openapi/openapi.json
var openapiDocument []byte

// openapiQuestion is GET /openapi.json.
func (s *Server) openapiQuestion(echo.Context) (question, error) {
	return question{key: "openapi", dir: &directory{}, build: func(context.Context) (*answer, error) {
		return &answer{body: openapiDocument, contentType: "application/json"}, nil
	}}, nil
}
