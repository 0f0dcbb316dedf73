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
	//go:embed certificate.yaml
	certificateText string
	//go:embed authority.yaml
	authorityText string

	functions           = template.FuncMap{"quote": quote}
	bootstrapTemplate   = template.Must(template.New("bootstrap").Funcs(functions).Parse(bootstrapText))
	certificateTemplate = template.Must(template.New("certificate").Funcs(functions).Parse(certificateText))
	authorityTemplate   = template.Must(template.New("authority").Funcs(functions).Parse(authorityText))
)

// bootstrap is what an Envoy has to know to find the hub.
type bootstrap struct {
	Group       string
	XDSAddress  string
	XDSPort     uint16
	ServerName  string
	Admin       string // path of the admin interface's socket
	Certificate string // path of the file with the proxies' own certificate
	Authority   string // path of the file with who signs the hub's
	IdentityDir string // where both are, and nothing else
	Connections int
}

func (b bootstrap) yaml() ([]byte, error) { return execute(bootstrapTemplate, b) }

// files returns the SDS files of an identity by name. Envoy takes one secret from
// a file.
func (i Identity) files() (map[string][]byte, error) {
	certificate, err := execute(certificateTemplate, i)
	if err != nil {
		return nil, err
	}
	authority, err := execute(authorityTemplate, i)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{certificateFile: certificate, authorityFile: authority}, nil
}

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
