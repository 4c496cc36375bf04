// Package workspace takes a snapshot of a repository's working tree on the client: what is judged, uploaded and built
// are the same bytes.
//
// # What travels
//
// The tree as a plain compose would see it: tracked, ignored and untracked files, hidden ones and empty directories,
// less whatever [IgnoreFile] and [Options.Exclude] name, and less .git, directory or file, at any depth and in any
// case, which no pattern brings back: a build that finds one runs git with the configuration it holds. (Git also
// takes a directory without that name for a repository when it holds HEAD, objects and refs. Such directories travel,
// test data being full of them, and whoever runs git over a received tree must set GIT_DIR.) Git is never run,
// .dockerignore filters nothing here. A [Manifest] lists the result and its digest names it.
//
// Regular files travel with mode 0755 if any executable bit is set and 0644 otherwise, directories with 0755; setuid,
// setgid and sticky bits, owners, extended attributes and hard links do not travel. A client on Windows has no
// executable bit to read: there a file is executable when it begins with #! or is an ELF image.
//
// A symbolic link travels as a link, wherever it leads: a container follows it in its own file system, and on the host
// whoever uses a path of the tree must not follow one, see [Manifest.Resolve]. Pipes, sockets and devices are skipped
// and named. Names and link targets with control characters or broken UTF-8 are refused, and so is a tree that already
// holds a [MarkerName] at its root.
//
// # The stream
//
// [Snapshot.WriteTar] produces one gzip member holding one tar archive:
//
//   - directories, regular files and symbolic links only, sorted by the bytes of their path, hence parents first;
//   - names relative, slash separated, without "." or ".."; a directory's name ends in a slash;
//   - uid and gid 0, no user or group names, the modes of the manifest;
//   - in GNU format, whose long names and sizes over 8 GiB GNU tar and busybox read; in PAX format busybox 1.35 takes a
//     file of that size for empty;
//   - modification times in whole seconds, as they were in the working tree (busybox does not restore those of
//     directories). They are not in the manifest and so not in the digest: make and its like compare the times of two
//     files, so one time for all would hide a stale artefact, while a build's cache looks only at contents;
//   - last the regular file [MarkerName], whose content is the encoded manifest of the whole tree, also when
//     only a difference is sent. Its SHA-256 is the digest of the tree.
//
// A stream that was not written to its end lacks the gzip trailer and, further back, the marker. A receiver accepts a
// tree when tar has succeeded and the marker's checksum is the digest it was told, both:
//
//	( umask 022 && tar --no-same-owner --no-same-permissions -xzf - -C "$stage" ) &&
//	[ "$(sha256sum < "$stage/.sandboxer-manifest")" = "$digest  -" ] &&
//	mv "$stage/.sandboxer-manifest" "$stage.manifest"
//
// The modes of the manifest arrive under umask 022; keep a tree private by the mode of the directory around it, since
// containers that run as another user read it through bind mounts. $stage must be a fresh directory that nothing but
// the receiver has written to. For a difference it is a copy of the base tree from which [Diff.Delete] has been
// removed; the copy may share its files with the base by hard links, for none is written in place.
package workspace
