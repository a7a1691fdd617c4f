//! Commands of documents that are run elsewhere than in `commands`, and by what. A new document's go here.

/// A line for each: the file; the command as it stands there, without its comment and with lines that go on joined by one
/// blank (`…` at its end stands for any rest); what runs it, a test by its path or a file of the repository; why not here.
#[rustfmt::skip]
pub(super) const CLAIMS: &[(&str, &str, &str, &str)] = &[
    ("README.md", "cargo run --release -- dev", "dev::dev_shows_all_six_types_and_says_where_it_listens_first", "a release build takes minutes"),
    ("README.md", "tests/run", ".ci/run", "it is what runs this"),
    ("README.md", "cargo build --release", "benches/run", "it takes minutes"),
    ("CONTRIBUTING.md", "tests/brokers/nats …", "tests/run", "it fetches, starts and kills each broker so"),
    ("CONTRIBUTING.md", "E2B_RELAY_TEST_NATS=nats://… cargo test --test all -- sink_nats", "tests/run", "it is what runs this"),
    ("docs/FIRST-CONTACT.md", "cargo run --release -- dev", "dev::dev_shows_all_six_types_and_says_where_it_listens_first", "a release build takes minutes"),
    ("docs/CONSUMERS.md", "cd …", "consumers::from_kafka_each_record_has_its_effect_once", "the tests' copies lie where their packages are"),
    ("docs/CONSUMERS.md", "python3 -m venv …", "tests/consumers/install", "it installs the same below target"),
    ("docs/CONSUMERS.md", "pip install -r requirements.txt", "tests/consumers/install", "it installs the same below target"),
    ("docs/CONSUMERS.md", "npm ci", "tests/consumers/install", "it installs the same below target"),
    ("docs/CONSUMERS.md", "npm run check", "consumers::types::typescript_is_content_with_all_strictness", "the tests' copies lie where their packages are"),
    ("docs/CONSUMERS.md", "python kafka_consumer.py …", "consumers::from_kafka_each_record_has_its_effect_once", "it does not end by itself"),
    ("docs/CONSUMERS.md", "node kafka.ts …", "consumers::from_kafka_each_record_has_its_effect_once", "it does not end by itself"),
    ("docs/CONSUMERS.md", "python nats_consumer.py …", "consumers::from_jetstream_each_record_has_its_effect_once", "it does not end by itself"),
    ("docs/CONSUMERS.md", "node nats.ts …", "consumers::from_jetstream_each_record_has_its_effect_once", "it does not end by itself"),
    ("docs/CONSUMERS.md", "python amqp_consumer.py …", "consumers::from_rabbitmq_each_record_has_its_effect_once", "it does not end by itself"),
    ("docs/CONSUMERS.md", "node amqp.ts …", "consumers::from_rabbitmq_each_record_has_its_effect_once", "it does not end by itself"),
    ("deploy/OPERATIONS.md", "apt install ./e2b-relay_0.1.0-1_amd64.deb", "packages::life::where_no_systemd_runs_it_is_installed_all_the_same_and_leaves_nothing", "it installs on the machine: there by dpkg below a folder"),
    ("deploy/OPERATIONS.md", "systemctl status e2b-relay", "packages::life::where_no_systemd_runs_it_is_installed_all_the_same_and_leaves_nothing", "no systemd runs here: a stand-in is asked"),
    ("deploy/docker/README.md", "docker compose …", "image::composed::what_the_simulated_e2b_does_comes_out_of_all_three_brokers_and_the_file", "no Docker is here: its files configure the programs themselves"),
    ("deploy/docker/README.md", "docker build …", "image::container::the_image_is_built_runs_without_rights_keeps_its_store_and_is_judged_right", "no Docker is here: Podman builds it, in the soak"),
    ("deploy/docker/README.md", "docker run …", "image::container::the_image_is_built_runs_without_rights_keeps_its_store_and_is_judged_right", "no Docker is here: runc runs it, in the soak"),
    ("deploy/docker/README.md", "docker stop …", "image::container::the_image_is_built_runs_without_rights_keeps_its_store_and_is_judged_right", "no Docker is here: runc ends it, in the soak"),
    ("deploy/helm/e2b-relay/README.md", "helm install e2b-relay …", "kubernetes::helm::every_set_of_values_renders_is_taken_and_configures_a_daemon", "no cluster is here: what would be installed is rendered and validated"),
    ("deploy/helm/e2b-relay/README.md", "kubectl exec e2b-relay-0 -- e2b-relay sinks list", "again::letters", "no cluster is here: the command is run beside a daemon"),
];

/// Blocks that a test runs as a whole: the file, a piece of the block, the test.
#[rustfmt::skip]
pub(super) const WHOLE: &[(&str, &str, &str)] = &[
    ("README.md", "mkdir ~/e2b-relay", "documents::readme::in_earnest_from_an_empty_home"),
    ("README.md", "openssl dgst", "documents::readme::in_earnest_from_an_empty_home"),
    ("docs/FIRST-CONTACT.md", "e2b-relay init --sink nats", "first_contact::five_commands_lead_from_an_empty_home_to_a_record_in_nats_sub_and_in_a_rabbitmq_consumer"),
    ("deploy/OPERATIONS.md", "deploy/backup ", "operations::a_store_is_backed_up_and_restored_by_the_commands_of_the_page"),
    ("deploy/OPERATIONS.md", "cp -a /var/backups", "operations::a_store_is_backed_up_and_restored_by_the_commands_of_the_page"),
    ("deploy/OPERATIONS.md", "webhook-secrets", "operations::every_secret_is_rotated_by_the_commands_of_the_page"),
    ("deploy/OPERATIONS.md", "$NEW_KEY", "operations::every_secret_is_rotated_by_the_commands_of_the_page"),
    ("deploy/OPERATIONS.md", "$NEW_PASSWORD", "operations::every_secret_is_rotated_by_the_commands_of_the_page"),
    ("deploy/OPERATIONS.md", "rm /var/lib/e2b-relay/data/admin-token", "operations::every_secret_is_rotated_by_the_commands_of_the_page"),
    ("deploy/OPERATIONS.md", "e2b-relay --version", "operations::the_commands_before_an_upgrade_end_well"),
    ("deploy/OPERATIONS.md", "mv before-format-1", "upgrade::an_old_store_is_taken_on_with_a_copy_by_which_one_goes_back"),
];
