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

// Package harm damages stores of Git objects behind their back, as a fault of
// memory or of this program would.
package harm

import (
	"reflect"
	"sync"
	"unsafe"

	"github.com/kubelb/gitops/gitsync/git"
)

// Lose takes an object out of a store. It reports whether it was there.
func Lose(store *git.Store, h git.Hash) bool {
	s := reflect.ValueOf(store).Elem()
	mu := (*sync.RWMutex)(unsafe.Pointer(s.FieldByName("mu").UnsafeAddr()))
	mu.Lock()
	defer mu.Unlock()
	field := s.FieldByName("objects")
	objects := reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem()
	key := reflect.ValueOf(h)
	if !objects.MapIndex(key).IsValid() {
		return false
	}
	objects.SetMapIndex(key, reflect.Value{})
	return true
}
