package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"math/big"
)

// newKey makes a host key of a kind, as files for sshd. private is nil for a kind that is not made.
func newKey(kind string) (private, public []byte, err error) {
	var block *pem.Block
	var wire sshWriter
	switch kind {
	case "ed25519":
		pub, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		wire.strings("ssh-ed25519", string(pub))
		block = &pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: opensshKey(wire.Bytes(), pub, key)}
	case "rsa":
		key, err := rsa.GenerateKey(rand.Reader, 3072)
		if err != nil {
			return nil, nil, err
		}
		wire.strings("ssh-rsa")
		wire.number(big.NewInt(int64(key.E)))
		wire.number(key.N)
		block = &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	case "ecdsa":
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		point, err := key.PublicKey.Bytes()
		if err != nil {
			return nil, nil, err
		}
		der, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			return nil, nil, err
		}
		wire.strings("ecdsa-sha2-nistp256", "nistp256", string(point))
		block = &pem.Block{Type: "EC PRIVATE KEY", Bytes: der}
	default:
		return nil, nil, nil
	}
	name := wire.Bytes()[4 : 4+binary.BigEndian.Uint32(wire.Bytes())]
	line := string(name) + " " + base64.StdEncoding.EncodeToString(wire.Bytes()) + "\n"
	return pem.EncodeToMemory(block), []byte(line), nil
}

// sshWriter writes the data types of RFC 4251.
type sshWriter struct{ bytes.Buffer }

func (w *sshWriter) strings(all ...string) {
	for _, s := range all {
		binary.Write(w, binary.BigEndian, uint32(len(s)))
		w.WriteString(s)
	}
}

func (w *sshWriter) number(n *big.Int) {
	b := n.Bytes()
	if len(b) > 0 && b[0]&0x80 != 0 {
		b = append([]byte{0}, b...)
	}
	w.strings(string(b))
}

// opensshKey returns an unencrypted key in OpenSSH's own form (PROTOCOL.key): sshd reads ed25519 keys
// in no other.
func opensshKey(wire []byte, pub ed25519.PublicKey, key ed25519.PrivateKey) []byte {
	var check [4]byte
	rand.Read(check[:])
	var secret sshWriter
	secret.Write(check[:])
	secret.Write(check[:])
	secret.strings("ssh-ed25519", string(pub), string(key), "")
	for i := byte(1); secret.Len()%8 != 0; i++ {
		secret.WriteByte(i)
	}
	var all sshWriter
	all.WriteString("openssh-key-v1\x00")
	all.strings("none", "none", "")
	binary.Write(&all, binary.BigEndian, uint32(1))
	all.strings(string(wire), secret.String())
	return all.Bytes()
}
