use super::*;

const DEBIAN: &str = "name=machine-b\narch=x86_64\naddress=10.77.0.2\nsystemd=yes\npackages=deb\nnoise\nconfig=written\n\
                      identity=-----BEGIN CERTIFICATE-----|AA==|-----END CERTIFICATE-----|\n";

#[test]
fn what_a_host_tells_is_read() {
    let found = Found::read(DEBIAN);
    assert_eq!((found.name.as_str(), found.address.as_str()), ("machine-b", "10.77.0.2"));
    assert!(found.has_systemd && found.is_configured);
    assert_eq!(found.identities, ["-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"]);
    assert_eq!(Found::read("\0=\n==\n"), Found::default());
}

#[test]
fn a_host_takes_its_own_packages_only() {
    let mut found = Found::read(DEBIAN);
    assert!(found.takes("baton-agent_0.1.0_amd64.deb"));
    assert!(!found.takes("baton-agent_0.1.0_arm64.deb") && !found.takes("baton-coord_0.1.0_amd64.deb"));
    found.packages = Packages::Rpm;
    assert!(found.takes("baton-agent-0.1.0-1.x86_64.rpm") && !found.takes("baton-agent_0.1.0_amd64.deb"));
    found.packages = Packages::None;
    assert!(found.takes("baton-agent-0.1.0-x86_64") && !found.takes("baton-agent-0.1.0-1.x86_64.rpm"));
}

#[test]
fn one_unit_is_the_hosts_own_server_and_several_have_names() {
    let one =
        instances("unit=redis-server.service\t/etc/redis/redis.conf\nunit=redis.service\t/etc/redis/redis.conf\n");
    assert_eq!(
        one,
        "\n[[instance]]\nconfig = \"/etc/redis/redis.conf\"\nservice = { systemd = \"redis-server.service\" }\n"
    );
    let two =
        instances("unit=redis-server@6380.service\t/etc/redis/6380.conf\nunit=valkey.service\t/etc/valkey.conf\n");
    assert!(two.contains("name = \"redis-server-6380\"") && two.contains("name = \"valkey\""), "{two}");
    let whole = agent_toml("10.77.0.2:7400", &two);
    assert_eq!(configs(&whole), ["/etc/redis/6380.conf", "/etc/valkey.conf"]);
}

#[test]
fn only_directories_that_the_unit_lacks_are_opened() {
    assert_eq!(drop_in(&["/var/lib/redis"]), None);
    let text = drop_in(&["/srv/b", "/var/lib/redis", "/srv/a", "/srv/a", "/x\"\nUser=root", "relative"]).unwrap();
    assert!(text.ends_with("[Service]\nReadWritePaths=\"-/srv/a\"\nReadWritePaths=\"-/srv/b\"\n"), "{text}");
}

#[test]
fn a_host_is_added_in_a_form_that_is_read_back() {
    for name in ["machine-b", "b.example.com"] {
        let text = format!("identity = \"pki/operator.pem\"\n{}", host_table(name, "10.77.0.2:7400"));
        let places = crate::inventory::Places { home: Some("/home/op".into()), ..Default::default() };
        let inventory = crate::inventory::Inventory::parse(&text, Path::new("coord.toml"), &places).unwrap();
        assert_eq!(inventory.names().first().map(ToString::to_string).as_deref(), Some(name));
    }
}
