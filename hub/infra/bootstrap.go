/*
Copyright 2026 The KubeLB GitOps Authors.

Licensed under the Apache License, Version 2.0 (the "License");
you may not use this file except in compliance with the License.
You may obtain a copy of the License at

    http://www.apache.org/licenses/LICENSE-2.0

Unless required by applicable law or agreed to in writing, software
distributed under the License is distributed on an "AS IS" BASIS,
WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
See the License for the specific language governing permissions and
limitations under the License.
*/

package infra

import (
	"bytes"
	_ "embed" // for the templates
	"encoding/json"
	"fmt"
	"text/template"
)

var (
	//go:embed bootstrap.yaml
	bootstrapText string
	//go:embed identity.yaml
	identityText string

	functions         = template.FuncMap{"quote": quote}
	bootstrapTemplate = template.Must(template.New("bootstrap").Funcs(functions).Parse(bootstrapText))
	identityTemplate  = template.Must(template.New("identity").Funcs(functions).Parse(identityText))
)

// bootstrap is what an Envoy has to know to find the hub.
type bootstrap struct {
	Group       string
	XDSAddress  string
	XDSPort     uint16
	ServerName  string
	Admin       string // path of the admin interface's socket
	Identity    string // path of the file that identity makes
	IdentityDir string
	Connections int
}

func (b bootstrap) yaml() ([]byte, error) { return execute(bootstrapTemplate, b) }

func (i Identity) yaml() ([]byte, error) { return execute(identityTemplate, i) }

func execute(t *template.Template, data any) ([]byte, error) {
	var out bytes.Buffer
	if err := t.Execute(&out, data); err != nil {
		return nil, fmt.Errorf("write Envoy's %s: %w", t.Name(), err)
	}
	return out.Bytes(), nil
}

// quote writes a text as YAML reads it back, as JSON does too.
func quote(text any) (string, error) {
	if raw, ok := text.([]byte); ok {
		text = string(raw)
	}
	out, err := json.Marshal(text)
	return string(out), err
}
