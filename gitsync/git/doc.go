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

// Package git reads and writes a remote Git repository at a cost that follows
// what changed, not what is there.
//
// A [Remote] is one repository over smart HTTP: list its refs, fetch commits,
// push commits. A [Store] holds objects in memory: read files and differences
// of trees, write new trees and commits. A [Signer] signs commits, and
// [Commit.Verify] says whose signature one carries.
//
// It promises that a look at the refs, a fetch and a push are one request
// each (after one question per service for what the server can do); that
// every call ends by its deadline; that a failed fetch leaves the store as it
// was; that a push whose outcome is not known says so; and that no error
// repeats a credential.
//
// It refuses to trust what comes from outside: malformed objects are errors,
// symbolic links and submodules are only reported by their mode, files over
// [repo.MaxFileSize] by their size, and there is no work tree.
//
// One Store serves one repository: what a push sends is what the store made
// itself and has not sent yet.
package git
