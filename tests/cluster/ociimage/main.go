// Ociimage writes a container image of one layer as an OCI archive, straight from
// files: no registry, no container engine, no root file system on the way.
//
//	ociimage -o OUT.tar -ref localhost/app:1 [options] -- [ENTRYPOINT [ARGUMENT...]]
//
// The same inputs make the same bytes: times are zero and entries are sorted. The
// layer isn't compressed, as the archive never leaves the machine.
package main

import (
	"archive/tar"
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// entry is one file, folder or link of the layer.
type entry struct {
	source string // a file to read the content from; empty: a folder or a link
	link   string // what a symbolic link leads to
	mode   int64
	uid    int
}

// layer holds the entries by their absolute path without the leading slash.
type layer map[string]entry

type options struct {
	out, ref, user, workdir, stopSignal string
	env, cmd                            []string
	layer                               layer
}

// descriptor points to a blob; the other types below follow the OCI image
// specification 1.1, as far as this program uses it.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
}

type image struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Config       struct {
		User       string   `json:"User,omitempty"`
		Env        []string `json:"Env,omitempty"`
		Entrypoint []string `json:"Entrypoint,omitempty"`
		Cmd        []string `json:"Cmd,omitempty"`
		WorkingDir string   `json:"WorkingDir,omitempty"`
		StopSignal string   `json:"StopSignal,omitempty"`
	} `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ociimage:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	o := options{layer: layer{}}
	flags := flag.NewFlagSet("ociimage", flag.ExitOnError)
	flags.StringVar(&o.out, "o", "", "the archive to write")
	flags.StringVar(&o.ref, "ref", "", "the image's full name, tag included")
	flags.StringVar(&o.user, "user", "", "UID[:GID] that the entry point runs as")
	flags.StringVar(&o.workdir, "workdir", "/", "the folder that it starts in")
	flags.StringVar(&o.stopSignal, "stop-signal", "", "what ends it, if not SIGTERM")
	flags.Func("env", "NAME=VALUE, any number of times", appendTo(&o.env))
	flags.Func("cmd", "an argument used if a pod gives none, any number of times", appendTo(&o.cmd))
	flags.Func("tree", "a folder that becomes the root, owned by root", o.layer.addTree)
	flags.Func("file", "SOURCE:/PATH:MODE, one more file", o.layer.addFile)
	flags.Func("link", "TARGET:/PATH, a symbolic link", o.layer.addLink)
	flags.Func("dir", "/PATH:MODE:UID, an empty folder", o.layer.addDir)
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if o.out == "" || o.ref == "" || flags.NArg()+len(o.cmd) == 0 {
		return errors.New("-o, -ref and an entry point or -cmd are needed")
	}
	return o.write(flags.Args())
}

func appendTo(list *[]string) func(string) error {
	return func(value string) error {
		*list = append(*list, value)
		return nil
	}
}

func (l layer) addTree(root string) error {
	return filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == root {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		e := entry{mode: int64(info.Mode().Perm())}
		switch info.Mode().Type() {
		case fs.ModeDir:
		case fs.ModeSymlink:
			if e.link, err = os.Readlink(name); err != nil {
				return err
			}
		case 0:
			e.source = name
		default:
			return fmt.Errorf("%s is neither a file, a folder nor a link", name)
		}
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		l[filepath.ToSlash(relative)] = e
		return nil
	})
}

func (l layer) addFile(value string) error {
	part := strings.Split(value, ":")
	if len(part) != 3 {
		return errors.New("not of the form SOURCE:/PATH:MODE")
	}
	mode, err := strconv.ParseInt(part[2], 8, 64)
	if err != nil {
		return err
	}
	return l.add(part[1], entry{source: part[0], mode: mode})
}

func (l layer) addLink(value string) error {
	target, at, found := strings.Cut(value, ":")
	if !found {
		return errors.New("not of the form TARGET:/PATH")
	}
	return l.add(at, entry{link: target, mode: 0o777})
}

func (l layer) addDir(value string) error {
	part := strings.Split(value, ":")
	if len(part) != 3 {
		return errors.New("not of the form /PATH:MODE:UID")
	}
	mode, err := strconv.ParseInt(part[1], 8, 64)
	if err != nil {
		return err
	}
	uid, err := strconv.Atoi(part[2])
	if err != nil {
		return err
	}
	return l.add(part[0], entry{mode: mode, uid: uid})
}

// add places an entry, and the folders above it where there are none yet.
func (l layer) add(at string, e entry) error {
	if !path.IsAbs(at) {
		return fmt.Errorf("%q is not an absolute path", at)
	}
	name := strings.TrimPrefix(path.Clean(at), "/")
	for parent := path.Dir(name); parent != "."; parent = path.Dir(parent) {
		if _, there := l[parent]; !there {
			l[parent] = entry{mode: 0o755}
		}
	}
	l[name] = e
	return nil
}

// writeTo writes the layer as a tar archive. A folder sorts before what is in it.
func (l layer) writeTo(w io.Writer) error {
	archive := tar.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(l)) {
		e := l[name]
		header := &tar.Header{Name: name, Mode: e.mode, Uid: e.uid, Gid: e.uid, Format: tar.FormatPAX}
		switch {
		case e.link != "":
			header.Typeflag, header.Linkname = tar.TypeSymlink, e.link
		case e.source == "":
			header.Typeflag, header.Name = tar.TypeDir, name+"/"
		default:
			header.Typeflag = tar.TypeReg
		}
		if err := writeEntry(archive, header, e.source); err != nil {
			return err
		}
	}
	return archive.Close()
}

func writeEntry(archive *tar.Writer, header *tar.Header, source string) error {
	if source == "" {
		return archive.WriteHeader(header)
	}
	file, err := os.Open(source)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	header.Size = info.Size()
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(archive, file)
	return err
}

// write makes the archive beside its final place and renames it, so that a reader
// finds a whole one or none.
func (o *options) write(entrypoint []string) error {
	content, err := os.CreateTemp(filepath.Dir(o.out), ".layer-*")
	if err != nil {
		return err
	}
	defer os.Remove(content.Name())
	defer content.Close()

	hash := sha256.New()
	buffered := bufio.NewWriterSize(content, 1<<20)
	if err := o.layer.writeTo(io.MultiWriter(buffered, hash)); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	size, err := content.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	layerBlob := descriptor{
		MediaType: "application/vnd.oci.image.layer.v1.tar",
		Digest:    "sha256:" + hex.EncodeToString(hash.Sum(nil)),
		Size:      size,
	}

	out, err := os.CreateTemp(filepath.Dir(o.out), ".image-*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	if err := o.writeArchive(out, entrypoint, layerBlob, content); err != nil {
		return err
	}
	if err := out.Chmod(0o644); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return os.Rename(out.Name(), o.out)
}

func (o *options) writeArchive(out io.Writer, entrypoint []string, layerBlob descriptor, content io.ReadSeeker) error {
	config := image{Architecture: runtime.GOARCH, OS: "linux"}
	config.Config.User = o.user
	config.Config.Env = o.env
	config.Config.Entrypoint = entrypoint
	config.Config.Cmd = o.cmd
	config.Config.WorkingDir = o.workdir
	config.Config.StopSignal = o.stopSignal
	config.RootFS.Type = "layers"
	config.RootFS.DiffIDs = []string{layerBlob.Digest}
	configBlob, configBytes, err := blob("application/vnd.oci.image.config.v1+json", config)
	if err != nil {
		return err
	}
	manifestBlob, manifestBytes, err := blob("application/vnd.oci.image.manifest.v1+json", manifest{
		SchemaVersion: 2,
		MediaType:     "application/vnd.oci.image.manifest.v1+json",
		Config:        configBlob,
		Layers:        []descriptor{layerBlob},
	})
	if err != nil {
		return err
	}
	manifestBlob.Annotations = map[string]string{
		"io.containerd.image.name":          o.ref,
		"org.opencontainers.image.ref.name": o.ref[strings.LastIndex(o.ref, ":")+1:],
	}
	_, indexBytes, err := blob("", index{
		SchemaVersion: 2,
		MediaType:     "application/vnd.oci.image.index.v1+json",
		Manifests:     []descriptor{manifestBlob},
	})
	if err != nil {
		return err
	}

	archive := tar.NewWriter(out)
	small := []struct {
		name    string
		content []byte
	}{
		{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{"index.json", indexBytes},
		{blobPath(manifestBlob), manifestBytes},
		{blobPath(configBlob), configBytes},
	}
	for _, file := range small {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: file.name, Mode: 0o644, Size: int64(len(file.content))}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := archive.Write(file.content); err != nil {
			return err
		}
	}
	header := &tar.Header{Typeflag: tar.TypeReg, Name: blobPath(layerBlob), Mode: 0o644, Size: layerBlob.Size}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if _, err := io.Copy(archive, content); err != nil {
		return err
	}
	return archive.Close()
}

// blob returns a value's JSON and what points to it.
func blob(mediaType string, value any) (descriptor, []byte, error) {
	content, err := json.Marshal(value)
	if err != nil {
		return descriptor{}, nil, err
	}
	sum := sha256.Sum256(content)
	return descriptor{
		MediaType: mediaType,
		Digest:    "sha256:" + hex.EncodeToString(sum[:]),
		Size:      int64(len(content)),
	}, content, nil
}

func blobPath(d descriptor) string {
	return "blobs/sha256/" + strings.TrimPrefix(d.Digest, "sha256:")
}
