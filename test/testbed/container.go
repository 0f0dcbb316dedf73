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

package testbed

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// startContainer runs one container: an echo server per port, or a program.
func (k *kubelet) startContainer(pod *corev1.Pod, container *corev1.Container, address netip.Addr) ([]io.Closer, error) {
	image, _, _ := strings.Cut(container.Image, ":")
	switch image {
	case "echo/http", "echo/tcp", "echo/udp":
	case "process":
		return k.startProgram(pod, container, address)
	default:
		return nil, fmt.Errorf("the bed cannot run the image %q: use echo/http, echo/tcp, echo/udp or process", container.Image)
	}
	var parts []io.Closer
	for _, port := range container.Ports {
		server := &echo{pod: pod.Name, namespace: pod.Namespace, node: pod.Spec.NodeName, port: int(port.ContainerPort)}
		listen := netip.AddrPortFrom(address, uint16(port.ContainerPort)) //nolint:gosec // validated by the API server
		var part io.Closer
		var err error
		switch {
		case port.Protocol == corev1.ProtocolUDP:
			part, err = server.serveUDP(listen)
		case image == "echo/http":
			part, err = server.serveHTTP(listen)
		default:
			part, err = server.serveTCP(listen)
		}
		if err != nil {
			return parts, err
		}
		parts = append(parts, part)
	}
	return parts, nil
}

// startProgram runs a container's command as a process. Its environment holds
// the container's literal variables and where to listen.
func (k *kubelet) startProgram(pod *corev1.Pod, container *corev1.Container, address netip.Addr) ([]io.Closer, error) {
	if len(container.Command) == 0 {
		return nil, errors.New("the image process needs a command")
	}
	command := Command{
		Name: strings.Join([]string{"pod", fmt.Sprint(k.cluster.index), pod.Namespace, pod.Name, container.Name}, "-"),
		Path: container.Command[0], Args: append(append([]string{}, container.Command[1:]...), container.Args...),
		Env: []string{
			"POD_NAME=" + pod.Name, "NAMESPACE=" + pod.Namespace, "POD_NAMESPACE=" + pod.Namespace,
			"NODE_NAME=" + pod.Spec.NodeName, "POD_IP=" + address.String(),
		},
	}
	for _, variable := range container.Env {
		if variable.ValueFrom == nil {
			command.Env = append(command.Env, variable.Name+"="+variable.Value)
		}
	}
	for i, argument := range command.Args {
		command.Args[i] = os.Expand(argument, func(name string) string {
			for _, variable := range command.Env {
				if value, ok := strings.CutPrefix(variable, strings.Trim(name, "()")+"="); ok {
					return value
				}
			}
			return "$" + name
		})
	}
	process, err := k.home.start(command)
	if err != nil {
		return nil, err
	}
	return []io.Closer{programCloser{process}}, nil
}

type programCloser struct{ process *Process }

func (c programCloser) Close() error {
	_ = c.process.Stop(time.Second)
	return nil
}
