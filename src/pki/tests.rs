//! What a minted certificate looks like to OpenSSL's own verifier.

use openssl::nid::Nid;
use openssl::stack::Stack;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509PurposeId, X509StoreContext, X509VerifyResult};

use super::*;

fn authority() -> Authority {
    Authority::new(&Profile::new("test CA").unwrap()).unwrap()
}

fn verify(
    root: &Authority,
    leaf: &Identity,
    between: &[&Authority],
    purpose: X509PurposeId,
) -> X509VerifyResult {
    let mut store = X509StoreBuilder::new().unwrap();
    store.add_cert(root.certificate().to_owned()).unwrap();
    store.set_flags(X509VerifyFlags::X509_STRICT).unwrap();
    store.set_purpose(purpose).unwrap();
    let store = store.build();
    let mut chain = Stack::new().unwrap();
    for authority in between {
        chain.push(authority.certificate().to_owned()).unwrap();
    }
    let mut context = X509StoreContext::new().unwrap();
    context
        .init(&store, leaf.certificate(), &chain, |context| {
            context.verify_cert()?;
            Ok(context.error())
        })
        .unwrap()
}

#[test]
fn every_algorithm_verifies_strictly_and_serves_one_purpose() {
    for &algorithm in Algorithm::ALL {
        let profile = Profile::new("test CA").unwrap().algorithm(algorithm).path_length(0);
        let ca = Authority::new(&profile).unwrap();
        let server = ca.issue(&Leaf::server(["localhost"]).unwrap().algorithm(algorithm)).unwrap();
        let client = ca.issue(&Leaf::client("agent").unwrap().algorithm(algorithm)).unwrap();
        for (leaf, fits, fits_not) in [
            (&server, X509PurposeId::SSL_SERVER, X509PurposeId::SSL_CLIENT),
            (&client, X509PurposeId::SSL_CLIENT, X509PurposeId::SSL_SERVER),
        ] {
            assert_eq!(verify(&ca, leaf, &[], fits), X509VerifyResult::OK, "{algorithm}");
            assert_ne!(verify(&ca, leaf, &[], fits_not), X509VerifyResult::OK, "{algorithm}");
            assert!(leaf.certificate().public_key().unwrap().public_eq(leaf.key()), "{algorithm}");
        }
    }
}

#[test]
fn an_intermediate_stands_in_the_chain_and_not_in_the_certificate() {
    let root = authority();
    let middle = root.intermediate(&Profile::new("middle CA").unwrap()).unwrap();
    let lower = middle.intermediate(&Profile::new("lower CA").unwrap()).unwrap();
    let leaf = lower.issue(&Leaf::server(["localhost"]).unwrap()).unwrap();
    let chain = X509::stack_from_pem(leaf.chain_pem().as_bytes()).unwrap();
    let subjects: Vec<String> =
        chain.iter().map(|certificate| format!("{:?}", certificate.subject_name())).collect();
    assert_eq!(chain.len(), 3, "{subjects:?}");
    assert!(subjects[1].contains("lower") && subjects[2].contains("middle"), "{subjects:?}");
    assert_eq!(X509::stack_from_pem(leaf.certificate_pem().as_bytes()).unwrap().len(), 1);
    let server = X509PurposeId::SSL_SERVER;
    assert_eq!(verify(&root, &leaf, &[&lower, &middle], server), X509VerifyResult::OK);
    assert_ne!(verify(&root, &leaf, &[], server), X509VerifyResult::OK);
}

#[test]
fn a_path_length_of_zero_allows_no_intermediate() {
    let root = Authority::new(&Profile::new("test CA").unwrap().path_length(0)).unwrap();
    let middle = root.intermediate(&Profile::new("middle CA").unwrap()).unwrap();
    let leaf = middle.issue(&Leaf::server(["localhost"]).unwrap()).unwrap();
    let result = verify(&root, &leaf, &[&middle], X509PurposeId::SSL_SERVER);
    assert_eq!(result.as_raw(), 25, "{result:?}"); // X509_V_ERR_PATH_LENGTH_EXCEEDED
}

#[test]
fn names_are_alternative_names_and_the_first_is_the_common_name() {
    let names = ["OAP.example.com", "10.0.0.1", "::1", "*.example.com", "oap.example.com"];
    let leaf = authority().issue(&Leaf::server(names).unwrap()).unwrap();
    let alternatives = leaf.certificate().subject_alt_names().unwrap();
    let dns: Vec<&str> = alternatives.iter().filter_map(|name| name.dnsname()).collect();
    let ips: Vec<&[u8]> = alternatives.iter().filter_map(|name| name.ipaddress()).collect();
    assert_eq!(dns, ["oap.example.com", "*.example.com"]);
    assert_eq!(ips, [&[10, 0, 0, 1][..], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]]);
    let mut common = leaf.certificate().subject_name().entries_by_nid(Nid::COMMONNAME);
    assert_eq!(common.next().unwrap().data().as_slice(), b"oap.example.com");
}

#[test]
fn a_name_too_long_for_a_common_name_is_still_an_alternative_name() {
    let long = format!("{}.example.com", ["a".repeat(60), "b".repeat(60)].join("."));
    let leaf = authority().issue(&Leaf::server([&long]).unwrap()).unwrap();
    let alternatives = leaf.certificate().subject_alt_names().unwrap();
    assert_eq!(alternatives[0].dnsname(), Some(long.as_str()));
}

#[test]
fn names_that_cannot_stand_in_a_certificate_are_refused_with_a_remedy() {
    for (name, remedy) in [
        ("", "DNS name or an IP"),
        ("https://oap", "scheme"),
        ("oap/x", "path"),
        ("oap:11800", "port"),
        ("[::1]", "brackets"),
        ("fe80::1%eth0", "zone"),
        ("bücher.example", "xn--"),
        ("my_oap", "underscores"),
        ("oap.", "dot at the end"),
        ("a..b", "labels"),
        ("-a.b", "labels"),
        ("a-.b", "labels"),
        ("a b", "labels"),
        ("a\0b", "labels"),
        ("*", "leftmost"),
        ("f*.example.com", "leftmost"),
        ("a.*.example.com", "leftmost"),
        ("*.com", "two labels"),
        ("10.0.0", "IP address"),
        ("300.1.1.1", "IP address"),
        (&"a".repeat(64), "labels"),
        (&["a"; 130].join("."), "253"),
    ] {
        let error = Leaf::server([name]).unwrap_err();
        assert_eq!(error.code(), Code::BadHostName, "{name}");
        assert!(error.remedy().contains(remedy), "{name}: {}", error.remedy());
    }
    assert_eq!(Leaf::server([""; 0]).unwrap_err().code(), Code::BadHostName);
    for name in ["localhost", "a", "1.example", "xn--bcher-kva.example", "::ffff:1.2.3.4", "*.a.b"]
    {
        Leaf::server([name]).unwrap();
    }
}

#[test]
fn common_names_are_held_to_their_bounds() {
    for name in ["", " ", "a\nb", &"a".repeat(65)] {
        assert_eq!(Profile::new(name).unwrap_err().code(), Code::BadHostName, "{name:?}");
        assert_eq!(Leaf::client(name).unwrap_err().code(), Code::BadHostName, "{name:?}");
    }
    authority().issue(&Leaf::client("ü".repeat(64)).unwrap()).unwrap();
}

#[test]
fn serials_are_positive_random_and_of_128_bits() {
    let ca = authority();
    let leaf = Leaf::client("agent").unwrap();
    let serials: Vec<_> = (0..8)
        .map(|_| ca.issue(&leaf).unwrap().certificate().serial_number().to_bn().unwrap())
        .collect();
    for (i, serial) in serials.iter().enumerate() {
        assert!(!serial.is_negative() && serial.num_bits() == 128, "{serial}");
        assert!(!serials[..i].contains(serial), "{serial}");
    }
}

#[test]
fn dates_are_relative_to_now_and_change_their_form_in_2050() {
    let server = X509PurposeId::SSL_SERVER;
    let ca = authority();
    for (validity, expected) in [
        (Validity::days(1), 0),
        (Validity::relative(-7200, -3600), 10), // X509_V_ERR_CERT_HAS_EXPIRED
        (Validity::relative(3600, 7200), 9),    // X509_V_ERR_CERT_NOT_YET_VALID
        (Validity::absolute(0, i64::MAX), 0),
    ] {
        let leaf = ca.issue(&Leaf::server(["a"]).unwrap().valid(validity)).unwrap();
        assert_eq!(verify(&ca, &leaf, &[], server).as_raw(), expected, "{validity:?}");
    }
    let leaf = Leaf::server(["a"]).unwrap().valid(Validity::absolute(2_524_607_999, 2_524_608_000));
    let der = ca.issue(&leaf).unwrap().certificate().to_der().unwrap();
    for date in [&b"491231235959Z"[..], b"20500101000000Z"] {
        // The byte before the text is its length: UTCTime has 13 characters, GeneralizedTime 15.
        let at = der.windows(date.len()).position(|window| window == date).unwrap();
        assert_eq!(usize::from(der[at - 1]), date.len());
    }
}

#[test]
fn times_are_written_as_rfc_3339() {
    for (unix, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (951_868_800, "2000-03-01T00:00:00Z"),
        (4_107_542_399, "2100-02-28T23:59:59Z"),
        (4_107_542_400, "2100-03-01T00:00:00Z"),
        (253_402_300_799, "9999-12-31T23:59:59Z"),
        (-1, "1969-12-31T23:59:59Z"),
    ] {
        assert_eq!(rfc3339(unix), text);
    }
}

#[test]
fn debug_shows_no_key() {
    let ca = authority();
    let leaf = ca.issue(&Leaf::client("agent").unwrap()).unwrap();
    for (text, key) in [(format!("{ca:?}"), ca.key_pem()), (format!("{leaf:?}"), leaf.key_pem())] {
        assert!(!text.contains("PRIVATE"), "{text}");
        assert!(key.lines().all(|line| !text.contains(line)), "{text}");
    }
}
