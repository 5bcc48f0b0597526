package templates

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"path"
	"sync"
)

//go:embed static
var files embed.FS

// An Asset is a static file.
type Asset struct {
	URL  string // /static/app.2c26b46b68ffc68f.css: it changes when Data does
	Type string // its Content-Type
	Data []byte // not to be changed
	Gzip []byte // Data, compressed (RFC 1952): nothing of it is secret or repeats what a request says
}

// The stylesheet comes after what it refers to.
var assetNames = []string{"logo.svg", "rings.svg", "app.js", "app.css", "demo.css"}

var assetTypes = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

type assets struct{ byName, byURL map[string]*Asset }

var static = sync.OnceValue(func() assets {
	all := assets{make(map[string]*Asset), make(map[string]*Asset)}
	for _, name := range assetNames {
		data, err := files.ReadFile("static/" + name)
		if err != nil {
			panic(err)
		}
		ext := path.Ext(name)
		if ext == ".css" {
			for other, a := range all.byName {
				data = bytes.ReplaceAll(data, []byte("url("+other+")"), []byte("url("+path.Base(a.URL)+")"))
			}
		}
		sum := sha256.Sum256(data)
		a := &Asset{
			URL:  "/static/" + name[:len(name)-len(ext)] + "." + hex.EncodeToString(sum[:8]) + ext,
			Type: assetTypes[ext],
			Data: data,
			Gzip: compressed(data),
		}
		all.byName[name], all.byURL[a.URL] = a, a
	}
	return all
})

func compressed(data []byte) []byte {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err)
	}
	return b.Bytes()
}

// Static is the static file that is served at url, if there is one.
func Static(url string) (*Asset, bool) {
	a, ok := static().byURL[url]
	return a, ok
}

// StaticURL is where the static file of that name ("app.css") is served. It
// panics for a name that does not exist.
func StaticURL(name string) string { return static().byName[name].URL }
