package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// challenge is what a registry asks for before it answers (RFC 9110, WWW-Authenticate).
type challenge struct {
	scheme string // bearer or basic
	params map[string]string
}

// parseChallenge reads a challenge. A registry sends one for each way.
func parseChallenge(headers []string) (challenge, error) {
	for _, scheme := range []string{"bearer", "basic"} {
		for _, h := range headers {
			name, rest, _ := strings.Cut(h, " ")
			if strings.EqualFold(name, scheme) {
				return challenge{scheme, parseParams(rest)}, nil
			}
		}
	}
	return challenge{}, errors.New("it asks for a login in an unknown way")
}

// parseParams reads name="value" pairs.
func parseParams(text string) map[string]string {
	params := map[string]string{}
	for text != "" {
		name, rest, ok := strings.Cut(text, "=")
		if !ok {
			break
		}
		value := ""
		if strings.HasPrefix(rest, `"`) {
			value, rest, _ = strings.Cut(rest[1:], `"`)
			_, rest, _ = strings.Cut(rest, ",")
		} else {
			value, rest, _ = strings.Cut(rest, ",")
		}
		params[strings.ToLower(strings.TrimSpace(name))] = strings.TrimSpace(value)
		text = rest
	}
	return params
}

// authorize returns the Authorization header that answers a challenge.
func (c *Client) authorize(ctx context.Context, e endpoint, headers []string) (string, error) {
	ch, err := parseChallenge(headers)
	if err != nil {
		return "", err
	}
	l, err := findLogin(ctx, e.host, e.repository)
	if err != nil {
		return "", err
	}
	if ch.scheme == "basic" {
		if l.user == "" {
			return "", &DeniedError{Host: e.host, Repository: e.repository}
		}
		return basic(l), nil
	}
	token, err := c.token(ctx, e, ch, l)
	return "Bearer " + token, err
}

func basic(l login) string {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(l.user, l.password)
	return r.Header.Get("Authorization")
}

// token gets a token to read the repository (distribution, token authentication).
func (c *Client) token(ctx context.Context, e endpoint, ch challenge, l login) (string, error) {
	realm, err := url.Parse(ch.params["realm"])
	if err != nil || realm.Host == "" {
		return "", fmt.Errorf("the registry sends for a token to %q", ch.params["realm"])
	}
	if realm.Scheme != "https" && !(realm.Scheme == "http" && e.insecure && isLoopback(realm.Host)) {
		return "", fmt.Errorf("the registry sends for a token to %s, which is not encrypted", realm)
	}
	scope := "repository:" + e.repository + ":pull"
	values := url.Values{"service": {ch.params["service"]}, "scope": {scope}}
	var q *http.Request
	if l.identityToken != "" {
		values.Set("grant_type", "refresh_token")
		values.Set("client_id", "stead")
		values.Set("refresh_token", l.identityToken)
		q, err = http.NewRequestWithContext(ctx, http.MethodPost, realm.String(), strings.NewReader(values.Encode()))
		if err == nil {
			q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
	} else {
		query := realm.Query()
		for k, v := range values {
			query[k] = v
		}
		realm.RawQuery = query.Encode()
		q, err = http.NewRequestWithContext(ctx, http.MethodGet, realm.String(), nil)
		if err == nil && l.user != "" {
			q.Header.Set("Authorization", basic(l))
		}
	}
	if err != nil {
		return "", err
	}
	a, err := c.do(e, q)
	if err != nil {
		return "", fmt.Errorf("get a token: %w", err)
	}
	defer a.Body.Close()
	if a.StatusCode == http.StatusUnauthorized || a.StatusCode == http.StatusForbidden || a.StatusCode == http.StatusBadRequest && l.from != "" {
		return "", &DeniedError{Host: e.host, Repository: e.repository, Login: l.from}
	}
	if a.StatusCode != http.StatusOK {
		return "", statusError(a)
	}
	var t struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(io.LimitReader(a.Body, 1<<20)).Decode(&t); err != nil {
		return "", fmt.Errorf("get a token: %w", err)
	}
	if t.Token == "" {
		t.Token = t.AccessToken
	}
	if t.Token == "" {
		return "", errors.New("get a token: the answer has none")
	}
	return t.Token, nil
}
