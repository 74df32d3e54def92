// A gateway with Go's net/http: document, token, stub; conditions and one range; the body copied as it comes.
//
//	COUCHDB_URL=http://... gateway PORT
//
// with an access log on standard output.
package main

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

type stub struct {
	ContentType string `json:"content_type"`
	Digest      string `json:"digest"`
	Length      int64  `json:"length"`
}

type document struct {
	Revision    string          `json:"_rev"`
	Token       string          `json:"download_token"`
	Attachments map[string]stub `json:"_attachments"`
}

type gateway struct {
	client *http.Client
	node   *url.URL
}

var oneRange = regexp.MustCompile(`^bytes=([0-9]*)-([0-9]*)$`)

func fail(w http.ResponseWriter, status int, reason string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, "{\"error\":%q}\n", reason)
}

func (g *gateway) get(r *http.Request, target string, byteRange string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(r.Context(), http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	if g.node.User != nil {
		password, _ := g.node.User.Password()
		request.SetBasicAuth(g.node.User.Username(), password)
	}
	if byteRange != "" {
		request.Header.Set("Range", byteRange)
	}
	return g.client.Do(request)
}

func (g *gateway) document(r *http.Request, address string) (document, error) {
	var found document
	answer, err := g.get(r, address, "")
	if err != nil {
		return found, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		_, err = io.Copy(io.Discard, answer.Body)
		return found, err
	}
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return found, err
	}
	return found, json.Unmarshal(text, &found)
}

// wantedRange tells first and last position; isRange is false for the whole, and first > last for no byte at all.
func wantedRange(text string, length int64) (first, last int64, isRange bool) {
	found := oneRange.FindStringSubmatch(text)
	if found == nil || (found[1] == "" && found[2] == "") {
		return 0, length - 1, false
	}
	if found[1] == "" {
		count, err := strconv.ParseInt(found[2], 10, 64)
		if err != nil || count > length {
			count = length
		}
		return length - count, length - 1, true
	}
	first, err := strconv.ParseInt(found[1], 10, 64)
	if err != nil {
		first = length
	}
	last, err = strconv.ParseInt(found[2], 10, 64)
	if err != nil || last >= length {
		last = length - 1
	}
	return first, last, true
}

func (g *gateway) download(w http.ResponseWriter, r *http.Request) {
	names := strings.SplitN(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/", 3)
	if len(names) != 3 {
		fail(w, http.StatusForbidden, "forbidden")
		return
	}
	address := g.node.Scheme + "://" + g.node.Host + "/" + names[0] + "/" + names[1]
	doc, err := g.document(r, address)
	if err != nil {
		fail(w, http.StatusBadGateway, "bad_gateway")
		return
	}
	token := r.URL.Query().Get("token")
	if doc.Token == "" || subtle.ConstantTimeCompare([]byte(token), []byte(doc.Token)) != 1 {
		fail(w, http.StatusForbidden, "forbidden")
		return
	}
	name, err := url.PathUnescape(names[2])
	attachment, isThere := doc.Attachments[name]
	if err != nil || !isThere {
		fail(w, http.StatusNotFound, "not_found")
		return
	}
	etag := `"` + strings.TrimPrefix(attachment.Digest, "md5-") + `"`
	w.Header().Set("Accept-Ranges", "bytes")
	w.Header().Set("ETag", etag)
	for _, each := range strings.Split(r.Header.Get("If-None-Match"), ",") {
		if strings.TrimPrefix(strings.TrimSpace(each), "W/") == etag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	g.send(w, r, attachment, address+"/"+names[2]+"?rev="+url.QueryEscape(doc.Revision))
}

func (g *gateway) send(w http.ResponseWriter, r *http.Request, attachment stub, target string) {
	first, last, isRange := wantedRange(r.Header.Get("Range"), attachment.Length)
	status, byteRange := http.StatusOK, ""
	if isRange {
		if first > last {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", attachment.Length))
			fail(w, http.StatusRequestedRangeNotSatisfiable, "requested_range_not_satisfiable")
			return
		}
		status, byteRange = http.StatusPartialContent, fmt.Sprintf("bytes=%d-%d", first, last)
	}
	body, err := g.get(r, target, byteRange)
	if err != nil {
		fail(w, http.StatusBadGateway, "bad_gateway")
		return
	}
	defer body.Body.Close()
	// CouchDB answers 200 to a range of all bytes.
	if (body.StatusCode != status && body.StatusCode != http.StatusOK) || body.ContentLength != last-first+1 {
		fail(w, http.StatusBadGateway, "bad_gateway")
		return
	}
	if isRange {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, attachment.Length))
	}
	w.Header().Set("Content-Type", attachment.ContentType)
	w.Header().Set("Content-Length", strconv.FormatInt(last-first+1, 10))
	w.WriteHeader(status)
	io.Copy(w, body.Body)
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	g.download(w, r)
	log.Printf("%s %s %s %s", r.RemoteAddr, r.Method, r.URL.Path, time.Since(start))
}

func main() {
	node, err := url.Parse(os.Getenv("COUCHDB_URL"))
	if err != nil {
		log.Fatal(err)
	}
	log.SetOutput(os.Stdout)
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		MaxIdleConnsPerHost: 256,
		IdleConnTimeout:     60 * time.Second,
		DisableCompression:  true,
	}
	server := &http.Server{
		Addr:              "127.0.0.1:" + os.Args[1],
		Handler:           &gateway{&http.Client{Transport: transport}, node},
		ReadHeaderTimeout: 60 * time.Second,
	}
	log.Fatal(server.ListenAndServe())
}
